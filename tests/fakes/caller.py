"""Speaks the nodes' protocol by hand, from an address at which no node runs.

What it promises: it sends the messages of the test, and nothing else. It returns each message that it receives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from gcount.cluster.links.transport import Link
from gcount.core.protocol import messages as wire
from gcount.core.state.membership import Membership
from gcount.errors import LinkClosed
from tests.fakes.cluster import Host, SimCluster, address_of

HELLO = wire.Hello(wire.PROTOCOL, "", b"n" * 16, b"1" * 16, b"i" * 16, [], Membership(), {}, floor=0)


def hello(**changes: object) -> wire.Hello:
    """A stranger's hello, with some fields changed."""
    return msgspec.structs.replace(HELLO, **changes)


class Caller:
    """One dialled link.

    Args:
        link: its own end of the link.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def send(self, *messages: wire.Message | bytes | str) -> None:
        """Send messages, or bytes and text that are no messages."""
        for message in messages:
            data = message if isinstance(message, bytes | str) else wire.encode(message)
            self._link.post(data)  # type: ignore[arg-type]  # a test sends text
            await self._link.flush()

    async def receive(self) -> wire.Message:
        """The next message."""
        with trio.fail_after(5):
            return wire.decode(await self._link.receive())

    async def ask(self, message: wire.Message | bytes) -> wire.Message:
        """Send one message and wait for the next one."""
        await self.send(message)
        return await self.receive()

    async def ends(self) -> float:
        """Read on until the other end hangs up; returns how many seconds that took."""
        started = trio.current_time()
        try:
            while True:
                await self.receive()
        except LinkClosed:
            return trio.current_time() - started


@asynccontextmanager
async def call(cluster: SimCluster, host: Host, number: int = 9) -> AsyncIterator[Caller]:
    """Dial a node from the address with that number."""
    async with cluster.network.transport(address_of(number)).connect(host.address) as link:
        yield Caller(link)
