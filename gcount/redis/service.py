"""Redis clients: what all their sessions share."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import trio

from gcount.net.connection import Connection
from gcount.node.node import Node
from gcount.observe.metrics import Sample
from gcount.redis.command import Command
from gcount.redis.dialect import speaks_redis
from gcount.redis.outbox import Pool
from gcount.redis.session import Session

_REFRESH_SECONDS: Final = 30.0


class RedisService:
    """What the sessions of a node share.

    Args:
        node: whom they ask; may still be recovering.
        verbs: the commands, by their names in capitals.
        refused: commands of Redis that make no sense here, and why.

    Attributes:
        kept: bytes of memory that the input of all sessions takes, see `Session.kept`.
        received: how many sessions there were.
        blocked: how many sessions wait for others now.
        unsent: what the answers take that their clients have not taken yet.
        listing: held by whoever collects all names, which take memory until they are an answer.
    """

    def __init__(self, node: Node, verbs: dict[bytes, Command], refused: dict[bytes, str]) -> None:
        self.node = node
        self.verbs = verbs
        self.refused = refused
        self.sessions: dict[int, Session] = {}
        self.kept = 0
        self.unsent = Pool()
        self.listing = trio.Lock()
        self.commands: Counter[tuple[str, bool]] = Counter()  # by name, and whether they failed
        self.received = self.blocked = 0
        self._commands = {*verbs, *refused}
        self._prefixes = {name[:size] for name in self._commands for size in range(len(name) + 1)}
        self._refreshed = trio.current_time()
        node.metrics.watch(self._readings)

    def is_spoken(self, data: bytes) -> bool | None:
        """Whether a client that sent this first is one of Redis; None when it has to send more before that is known."""
        return speaks_redis(data, self._commands, self._prefixes)

    async def serve(self, connection: Connection, data: bytes) -> None:
        """Answer a client until either side ends the connection.

        Args:
            connection: the client's.
            data: what it sent first.
        """
        self.received += 1
        session = Session(self, connection, self.received)
        self.sessions[session.id] = session
        try:
            await session.run(data)
        finally:
            del self.sessions[session.id]
            self.kept -= session.kept
            session.outbox.close()

    def refresh(self) -> None:
        """Keep connections that are idle from being closed, as Redis does; to be called now and then."""
        if trio.current_time() >= self._refreshed + _REFRESH_SECONDS:
            self._refreshed = trio.current_time()
            for session in self.sessions.values():
                session.refresh()

    def _readings(self) -> Iterator[Sample]:
        for (name, failed), number in sorted(self.commands.items()):
            labels = {"command": name, "outcome": "error" if failed else "ok"}
            yield "gcount_redis_commands_total", "Commands of Redis clients.", labels, number
