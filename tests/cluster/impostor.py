"""Somebody who answers at an address of the config and is no node."""

from __future__ import annotations

from collections.abc import Callable

from gcount.cluster.links.transport import Link
from gcount.core.protocol import messages as wire
from gcount.errors import LinkClosed
from tests.fakes.caller import hello
from tests.fakes.cluster import Host, SimCluster, address_of

NUMBER = 9
"""Of its address, from which `call` dials, too."""


class Impostor:
    """Answers what it is asked so that reads end: it has nothing, and takes nothing.

    Args:
        acks: whether it acknowledges pushes; if not, it is the slowest of peers.
    """

    recovered = True

    def __init__(self, *, acks: bool = True) -> None:
        self.address = address_of(NUMBER)
        self.hello = hello()
        self.pushed_by: list[str] = []  # addresses
        self._acks = acks
        self._links: dict[str, Link] = {}

    async def accept(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        """Serve whoever dials."""
        try:
            await link.receive()
            link.post(wire.encode(self.hello))
            self._links[caller] = link
            while True:
                await self._answer(caller, link, wire.decode(await link.receive()))
        except LinkClosed:
            pass

    async def say(self, host: Host, *messages: wire.Message | bytes) -> None:
        """Send a node what it did not ask for, unless it has hung up."""
        link = self._links.get(host.address)
        for message in messages if link else ():
            link.post(message if isinstance(message, bytes) else wire.encode(message))  # type: ignore[union-attr]

    async def _answer(self, caller: str, link: Link, message: wire.Message) -> None:
        answer: wire.Message | None = None
        match message:
            case wire.Push(number=number):
                self.pushed_by.append(caller)
                answer = wire.Ack(number, {}) if self._acks else None
            case wire.Heartbeat():
                answer = wire.HeartbeatAck({})
            case wire.ReadCells(round=number):
                answer = wire.CellsReply(number, {})
        if answer is not None:
            link.post(wire.encode(answer))


async def joined_by_impostor(cluster: SimCluster, *, acks: bool = True) -> Impostor:
    """Post a config of all nodes and of an impostor, to which all of them then have links."""
    impostor = Impostor(acks=acks)
    cluster.network.listen(impostor.address, impostor, cluster.nursery)
    await cluster[1].node.configure({"actors": [*cluster.addresses, impostor.address]})
    await cluster.eventually(lambda: all(linked(host, impostor.address) for host in cluster.hosts))
    return impostor


def linked(host: Host, address: str) -> bool:
    """Whether a node has a link to an address."""
    peer = host.node.peers.get(address)
    return peer is not None and peer.sender is not None
