"""Redis clients: what all their sessions share."""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Final

import trio

from gcount.api.connection import Connection
from gcount.api.session import Session
from gcount.api.verbs import Verb
from gcount.metrics import Reading
from gcount.node import Node

_REFRESH_SECONDS: Final = 30.0


class Redis:
    """What the sessions of a node share.

    Args:
        node: whom they ask; may still be recovering.
        verbs: the commands, by their names in capitals.
        refused: commands of Redis that make no sense here, and why.

    Attributes:
        kept: bytes of memory that the input of all sessions takes, see `Session.kept`.
    """

    def __init__(self, node: Node, verbs: dict[bytes, Verb], refused: dict[bytes, str]) -> None:
        self.node = node
        self.verbs = verbs
        self.refused = refused
        self.sessions: dict[int, Session] = {}
        self.kept = 0
        self.commands: Counter[tuple[str, bool]] = Counter()  # by name, and whether they failed
        self._ids = count(1)
        self._refreshed = trio.current_time()
        node.metrics.watch(self._readings)

    async def serve(self, connection: Connection, data: bytes) -> None:
        """Answer a client until either side ends the connection.

        Args:
            connection: the client's.
            data: what it sent first.
        """
        session = Session(self, connection, next(self._ids))
        self.sessions[session.id] = session
        try:
            await session.run(data)
        finally:
            del self.sessions[session.id]
            self.kept -= session.kept

    def refresh(self) -> None:
        """Keep connections that are idle from being closed, as Redis does; to be called now and then."""
        if trio.current_time() >= self._refreshed + _REFRESH_SECONDS:
            self._refreshed = trio.current_time()
            for session in self.sessions.values():
                session.refresh()

    def _readings(self) -> Iterator[Reading]:
        for (name, failed), number in sorted(self.commands.items()):
            labels = {"command": name, "outcome": "error" if failed else "ok"}
            yield "gcount_redis_commands_total", "Commands of Redis clients.", labels, number
