"""The service for Redis clients: the clients that are connected, and what they share."""

from collections.abc import Iterator
from typing import Final

import trio

from gcount.net.connection import Connection
from gcount.node.node import Node
from gcount.observe.metrics import Sample
from gcount.redis.command import Commands
from gcount.redis.context import Shared
from gcount.redis.dialect import speaks_redis
from gcount.redis.session import Session

_REFRESH_SECONDS: Final = 30.0


class RedisService:
    """Answers the Redis clients of a node.

    Args:
        node: the node; may still be recovering.
        commands: the commands that clients may use.

    Attributes:
        sessions: the sessions of the clients that are connected, by the clients' ids.
        shared: what all clients share.
    """

    def __init__(self, node: Node, commands: Commands) -> None:
        self.sessions: dict[int, Session] = {}
        self.shared = Shared(self.sessions)
        self._node = node
        self._commands = commands
        self._words = {*commands.known, *commands.refused}
        self._prefixes = {name[:size] for name in self._words for size in range(len(name) + 1)}
        self._refreshed = trio.current_time()
        node.metrics.watch(self._samples)

    def is_spoken(self, data: bytes) -> bool | None:
        """Whether a client that sent these first bytes is a Redis client; None if more bytes are needed to decide."""
        return speaks_redis(data, self._words, self._prefixes)

    async def serve(self, connection: Connection, data: bytes) -> None:
        """Answer a client until either side ends the connection.

        Args:
            connection: the client's connection.
            data: the first bytes that the client sent.
        """
        self.shared.received += 1
        number = self.shared.received
        session = self.sessions[number] = Session(self._node, self._commands, self.shared, connection, number)
        try:
            await session.run(data)
        finally:
            del self.sessions[number]
            session.close()

    def refresh(self) -> None:
        """Keep idle clients from being closed, as Redis does. It has to be called every few seconds."""
        if trio.current_time() >= self._refreshed + _REFRESH_SECONDS:
            self._refreshed = trio.current_time()
            for session in self.sessions.values():
                session.refresh()

    def _samples(self) -> Iterator[Sample]:
        for (name, failed), number in sorted(self.shared.commands.items()):
            labels = {"command": name, "outcome": "error" if failed else "ok"}
            yield "gcount_redis_commands_total", "Commands of Redis clients.", labels, number
