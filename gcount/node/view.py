"""What protocols can read of a node besides values: names of counters, how many members hold a position, its state."""

from dataclasses import dataclass

import trio

from gcount.core.state.counters import Digest
from gcount.core.state.ids import key_of
from gcount.errors import IdUnknown
from gcount.node.node import Node


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of a node at one instant.

    Args:
        port: the port on which it listens.
        max_connections: the limit that the operator set.
        uptime: seconds since its start.
        recovered: whether the start is over.
        not_ready: why it can't take increments now; None when it can.
        log_bytes: the size of its log, in bytes.
        counters: the number of counters; 0 until the start is over.
        linked: the number of members to which it has a link.
    """

    port: int
    max_connections: int
    uptime: float
    recovered: bool
    not_ready: str | None
    log_bytes: int
    counters: int
    linked: int


class NodeView:
    """What a protocol may read of a node.

    Args:
        node: the node. Until it has recovered, most methods raise `Recovering`.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def require_ready(self) -> None:
        """Raise `Recovering` until the start is over."""
        self._node.require_ready()

    @property
    def start_id(self) -> bytes:
        """16 random bytes, drawn anew at each start of the node."""
        self._node.require_ready()
        return self._node.start_id

    @property
    def counters(self) -> int:
        """The number of counters that the node knows."""
        self._node.require_ready()
        return len(self._node.replica.counters)

    def names(self, start: int, end: int) -> list[str]:
        """Some of the counters' names, in the order in which they became known. No name is ever removed."""
        self._node.require_ready()
        return self._node.replica.counters.names(start, end)

    def id_total(self, name: str, id_: str) -> int:
        """What an id has added to a counter, as this node has it on disk.

        Args:
            name: a valid name.
            id_: a well-formed id that says its time.

        Raises:
            IdUnknown: the id has not come, or it is settled.
        """
        self._node.require_ready()
        entry = self._node.replica.counters.entries.get(key_of(name, id_))
        if entry is None:
            raise IdUnknown("nothing is known here of this id of this counter: it has not come, or its time is over")
        return entry.total

    async def consistent_value(self, name: str, timeout: float | None) -> int:
        """The exact value of a counter; see `Node.consistent_value`."""
        return await self._node.consistent_value(name, timeout)

    def holders(self, position: Digest) -> int:
        """How many other members have said that they have all of a position on their disks."""
        self._node.require_ready()
        return self._node.peers.holders(position)

    async def wait_for_holders(self, position: Digest, members: int, timeout: float) -> None:
        """Return when so many other members hold a position, the time is over, or the node is asked to stop.

        Args:
            position: the position of increments that were counted on this node; see `Outcome`.
            members: how many other members have to hold it.
            timeout: how long to wait, in seconds.
        """
        self._node.require_ready()
        version = self._node.replica.counters.version
        durable = all(at <= version(incarnation) for incarnation, at in position.items())
        assert durable, "a position that is waited for is durable here"
        with trio.move_on_after(timeout):
            await self._node.peers.wait_held(position, members)

    def overview(self) -> Overview:
        """The present state of the node."""
        node = self._node
        recovered = node.recovered
        return Overview(
            port=node.settings.port,
            max_connections=node.settings.max_connections,
            uptime=trio.current_time() - node.started,
            recovered=recovered,
            not_ready=node.not_ready,
            log_bytes=node.log.size,
            counters=self.counters if recovered else 0,
            linked=node.peers.linked if recovered else 0,
        )
