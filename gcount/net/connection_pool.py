"""Who is connected to this node, and who has to go when there is no room left.

Anybody may connect, so everything a connection may take has a limit here: how many there are (a newcomer
displaces the client that has been idle for longest), how long one may refuse to read what is sent to it, how
long it may go on sending after it was answered. Links between nodes are never displaced.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import trio

from gcount.net.connection import Connection
from gcount.net.descriptors import MAX_LINKS
from gcount.net.options import ConnectionOptions
from gcount.net.reactor import Reactor
from gcount.net.stream import Stream
from gcount.observe.metrics import Sample

_DEFAULTS: Final = ConnectionOptions()


class ConnectionPool:
    """All connections of the node: admits newcomers and chooses who leaves.

    Everything here is synchronous and takes constant time, however many are connected: a flood costs its
    sender more than it costs the node.

    Args:
        limit: the most connections at a time, links included.
        max_links: the most links among them.
        options: what each may take.

    Attributes:
        reactor: receives for them; the server runs it.
        stopping: whether the server ends.
        displaced: how many clients had to go to make room.
        refused: how many newcomers found no room.
    """

    def __init__(self, limit: int, *, max_links: int = MAX_LINKS, options: ConnectionOptions = _DEFAULTS) -> None:
        self.limit = limit
        self.max_links = max_links
        self.options = options
        self.reactor = Reactor()
        self.stopping = False
        self.displaced = 0
        self.refused = 0
        # Idle ones in order of their last use, busy ones in order of the start of their request. Not dict,
        # which takes longer and longer to find its first key when keys are removed at the front.
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._busy: OrderedDict[Connection, None] = OrderedDict()
        self._links: OrderedDict[Connection, None] = OrderedDict()
        self._one_left = trio.Event()

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy) + len(self._links)

    @property
    def clients(self) -> int:
        """How many connections are not links."""
        return len(self._idle) + len(self._busy)

    @property
    def links(self) -> int:
        """How many connections are links."""
        return len(self._links)

    def gauges(self) -> Iterator[Sample]:
        """What `/metrics` reads off at each scrape."""
        yield "gcount_connections", "Open connections.", {"kind": "client"}, self.clients
        yield "gcount_connections", "Open connections.", {"kind": "link"}, self.links
        yield "gcount_connections_displaced_total", "Clients closed to make room.", {}, self.displaced
        yield "gcount_connections_refused_total", "Newcomers for whom no room could be made.", {}, self.refused

    def admit(self, stream: Stream) -> Connection | None:
        """Register an accepted stream; without room for it, None is returned and the stream is closed."""
        connection = Connection(stream, self)
        if len(self) >= self.limit and not self.make_room():
            self.refused += 1
            connection.abort()
            return None
        self._idle[connection] = None
        return connection

    def make_room(self) -> bool:
        """Close the client idle for longest; without an idle one, that with the oldest request.

        Returns:
            False if there are only links.
        """
        victim = next(iter(self._idle), None) or next(iter(self._busy), None)
        if victim is None:
            return False
        assert not victim.is_link, "a link is never displaced"
        self.displaced += 1
        victim.abort()
        return True

    def close_unused(self, seconds: float) -> None:
        """Close the clients without a request whose last use is so many seconds ago, or more."""
        latest = trio.current_time() - seconds
        while (oldest := next(iter(self._idle), None)) is not None and oldest.last_used <= latest:
            oldest.abort()

    def abort_all(self) -> None:
        """End every connection now."""
        for connection in [*self._idle, *self._busy, *self._links]:
            connection.abort()

    async def wait_no_clients(self) -> None:
        """Wait until links are the only connections."""
        while self.clients:
            self._one_left = trio.Event()
            await self._one_left.wait()

    # What a connection tells; see `Registry`.

    def place(self, connection: Connection, *, busy: bool) -> None:
        """Move a registered client to the end of the queue that it now belongs to."""
        queue, other = (self._busy, self._idle) if busy else (self._idle, self._busy)
        if connection in other:
            del other[connection]
            queue[connection] = None
        elif connection in queue:
            queue.move_to_end(connection)

    def promote(self, connection: Connection) -> bool:
        """Make a registered client a link, if there is room for one more."""
        if len(self._links) >= self.max_links or not (connection in self._idle or connection in self._busy):
            return False
        self.forget(connection)  # from here on `make_room` does not find it
        self._links[connection] = None
        return True

    def forget(self, connection: Connection) -> None:
        """Register it no longer."""
        for queue in (self._idle, self._busy, self._links):
            queue.pop(connection, None)
        self._one_left.set()
