"""The connections of a node: which are open, and which one is closed when there are too many.

Anybody may connect, so everything that a connection may take has a limit:

* How many connections there are. A new one displaces the client that has been idle for longest.
* How long a client may refuse to read what is sent to it.
* How long a client may go on sending after its last answer.

Links between nodes are never displaced.
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
    """All connections of the node: admits new ones, and closes an old one when the limit is reached.

    Everything here is synchronous and takes constant time, however many connections there are. So a flood of
    connections costs its sender more than it costs the node.

    Args:
        limit: the most connections at a time, links included.
        max_links: the most links among them.
        options: the limits of each connection.

    Attributes:
        reactor: receives for the connections whose tasks sleep; the server runs it.
        stopping: whether the server is stopping.
        displaced: how many clients were closed in favour of new ones.
        refused: how many new connections were closed because only links were open.
    """

    def __init__(self, limit: int, *, max_links: int = MAX_LINKS, options: ConnectionOptions = _DEFAULTS) -> None:
        self.limit = limit
        self.max_links = max_links
        self.options = options
        self.reactor = Reactor()
        self.stopping = False
        self.displaced = 0
        self.refused = 0
        # Idle clients in the order of their last use, busy ones in the order in which their requests began. A dict
        # would take longer and longer to find its first key, as keys are removed at its front.
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
        """The metrics of the pool, for each scrape of `/metrics`."""
        yield "gcount_connections", "Open connections.", {"kind": "client"}, self.clients
        yield "gcount_connections", "Open connections.", {"kind": "link"}, self.links
        displaced = "Clients closed because a new connection came and the limit was reached."
        yield "gcount_connections_displaced_total", displaced, {}, self.displaced
        refused = "New connections closed at once because the limit was reached."
        yield "gcount_connections_refused_total", refused, {}, self.refused

    def admit(self, stream: Stream) -> Connection | None:
        """Register an accepted stream.

        Returns:
            Its connection. None if the limit is reached and no client can be displaced; the stream is closed then.
        """
        connection = Connection(stream, self)
        if len(self) >= self.limit and not self.displace():
            self.refused += 1
            connection.abort()
            return None
        self._idle[connection] = None
        assert len(self) <= self.limit, "there are more connections than the limit allows"
        return connection

    def displace(self) -> bool:
        """Close the client that has been idle for longest; if none is idle, the one whose request is the oldest.

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
        """Close the idle clients that were last used at least so many seconds ago."""
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

    # Called by the connections; see `Registry`.

    def place(self, connection: Connection, *, busy: bool) -> None:
        """Move a registered client to the end of the queue that it now belongs to."""
        queue, other = (self._busy, self._idle) if busy else (self._idle, self._busy)
        if connection in other:
            del other[connection]
            queue[connection] = None
        elif connection in queue:
            queue.move_to_end(connection)

    def promote(self, connection: Connection) -> bool:
        """Make a registered client a link, unless the limit of links is reached."""
        if len(self._links) >= self.max_links or not (connection in self._idle or connection in self._busy):
            return False
        self.forget(connection)  # from here on `displace` does not find it
        self._links[connection] = None
        return True

    def forget(self, connection: Connection) -> None:
        """Remove a connection that was closed."""
        for queue in (self._idle, self._busy, self._links):
            queue.pop(connection, None)
        self._one_left.set()
