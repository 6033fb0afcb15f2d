"""A simulated network: delays, cuts, pauses and lost connections, on the mock clock, without threads or sockets.

What it promises:
- A connection behaves as one over TCP: whole messages in order without gaps, a bounded buffer for each direction.
- A message that is sent into a cut waits. It moves on when the cut heals, unless the connection was given up meanwhile.
- The end of a connection travels like a message. The connections of a paused node stand still, as those of a stopped
  process do.
- All delays come from one source of chance: the same seed gives the same delays.
- Nodes dial entries of a config. The machine to which an entry leads may change (see `names.py`). Everything else is
  known by the machines' own addresses.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf
from random import Random
from typing import Protocol

import trio

from gcount.cluster.links.transport import CONNECT_TIMEOUT, Link, Transport
from gcount.errors import LinkClosed, LinkRefused, Recovering
from tests.fakes.names import Names
from tests.fakes.process import PROCESS

BUFFER_BYTES = 256 * 1024

Tap = Callable[[str, str, bytes], None]
"""Called with the sender, the receiver and the content of a message."""


class Server(Protocol):
    """A node, as the network sees it."""

    @property
    def recovered(self) -> bool: ...

    async def accept(self, link: Link, caller: str, promote: Callable[[], bool]) -> None: ...


class SimNetwork:
    """All addresses, and the connections between them.

    Args:
        random: the source of the delays.
        delay: the least and the most seconds that a message travels.

    Attributes:
        buffer_bytes: the bytes on their way in one direction of a connection; beyond it the sender has to wait.
    """

    def __init__(self, random: Random, delay: tuple[float, float] = (0.001, 0.01)) -> None:
        self.random = random
        self.delay = delay
        self.buffer_bytes = BUFFER_BYTES
        self.tap: Tap = lambda sender, receiver, data: None  # called when a message is sent
        self.arrived: Tap = lambda sender, receiver, data: None  # called when a message is received
        self.cuts: set[tuple[str, str]] = set()
        self.shut: set[str] = set()  # entries to which no connection carries anything, in either direction
        self.breaks = 0  # how often connections were broken
        self._moves: Counter[str] = Counter()  # by entry, how often all connections to it ended as its address moved
        self.paused: set[str] = set()
        self.names = Names(self._break)
        self.silent: set[str] = set()  # addresses of hosts that are down: not even a refusal comes from there
        self.ends: Counter[str] = Counter()  # by address, how many nodes have ended there
        self._servers: dict[str, tuple[Server, trio.Nursery]] = {}
        self._pipes: dict[Pipe, None] = {}  # in the order in which they were made, so that a seed repeats a run
        self._changed = trio.Event()

    def transport(self, address: str, *, knows_itself: bool = True) -> SimTransport:
        """The transport of the node at an address."""
        return SimTransport(self, address, knows_itself=knows_itself)

    def listen(self, address: str, server: Server, nursery: trio.Nursery) -> None:
        """Make a node reachable; its links are served in the nursery."""
        self._servers[address] = (server, nursery)

    def close(self, address: str, *, lose: bool = False) -> None:
        """Stop listening at an address, and end all its connections.

        Args:
            address: the address.
            lose: whether messages of the node that are on their way are lost.
        """
        self._servers.pop(address, None)
        self.ends[address] += 1
        for pipe in list(self._pipes):
            if pipe.source == address:
                pipe.finish(lose=lose)
            elif pipe.target == address:
                pipe.ignore()

    def drop(self, one: str, other: str, lost: Sequence[bool] = (True, True)) -> None:
        """End all connections between two addresses.

        Args:
            one: an address.
            other: another address.
            lost: whether the messages on their way are lost: from one to the other, and back.
        """
        self.breaks += 1
        for pipe in list(self._pipes):
            if {one, other} == {pipe.source, pipe.target}:
                pipe.finish(lose=lost[pipe.source != one])

    def _break(self, entry: str) -> None:
        self.breaks += 1
        self._moves[entry] += 1
        for pipe in list(self._pipes):
            if pipe.entry == entry:
                pipe.finish(lose=True)

    def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Cut the network between two addresses, in both directions or only from the first to the second."""
        self.cuts |= {(one, other)} if one_way else {(one, other), (other, one)}

    def isolate(self, address: str) -> None:
        """Cut an address off from all others that listen."""
        for other in self._servers:
            if other != address:
                self.cut(address, other)

    def heal(self, *ends: str) -> None:
        """End all cuts, or those between two addresses; with one address, let it be dialled again."""
        self.cuts = {cut for cut in self.cuts if ends and set(cut) != set(ends)}
        if len(ends) < 2:
            self.shut = self.shut - set(ends) if ends else set()
        self._poke()

    def shut_off(self, entry: str) -> None:
        """Let nothing move on connections that were dialled to an entry, until the next `heal`."""
        self.shut.add(entry)

    def pause(self, address: str) -> None:
        """Stop all messages to and from an address."""
        self.paused.add(address)

    def resume(self, address: str) -> None:
        """End a pause."""
        self.paused.discard(address)
        self._poke()

    def flows(self, source: str, target: str) -> bool:
        """Whether messages move in that direction."""
        return (source, target) not in self.cuts and not {source, target} & self.paused

    def some_delay(self) -> float:
        """How long the next message travels, in seconds."""
        return self.random.uniform(*self.delay)

    async def travel(self, source: str, target: str) -> None:
        """Return when one packet has travelled from one address to another."""
        await trio.sleep(self.some_delay())
        while not self.flows(source, target):
            await self._changed.wait()

    async def dial(self, source: str, entry: str) -> SimLink:
        """Connect to an entry. It waits while the network is cut, and fails if the entry's address moves meanwhile."""
        target, moves = self.names.leads_to(source, entry), self._moves[entry]
        await self.travel(source, target)
        server, nursery = self._servers.get(target, (None, None))
        if server is None and target in self.silent:
            await trio.sleep_forever()
        await self.travel(target, source)
        while entry in self.shut:
            await self._changed.wait()
        if server is None or nursery is None or self._servers.get(target, (None, None))[0] is not server:
            raise LinkClosed("no connection: connection refused")
        if self._moves[entry] != moves:  # the machine that had the address gets nothing more that is sent to it
            raise LinkClosed("no connection: no route to host")
        if not server.recovered:
            raise LinkRefused("it answered the dial with HTTP status 503")
        there, back = Pipe(self, source, target, entry), Pipe(self, target, source, entry)
        nursery.start_soon(_serve, server, SimLink(back, there), source, target)
        return SimLink(there, back)

    def opened(self, pipe: Pipe) -> None:
        """Register one direction of a new connection."""
        self._pipes[pipe] = None

    def forget(self, pipe: Pipe) -> None:
        """Remove one direction of a connection, when its end has arrived."""
        self._pipes.pop(pipe, None)

    def _poke(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        for pipe in self._pipes:
            pipe.poke()


async def _serve(server: Server, link: SimLink, caller: str, target: str) -> None:
    PROCESS.set(target)
    try:
        await server.accept(link, caller, lambda: True)
    except Recovering:
        pass
    finally:
        link.close()


class Pipe:
    """One direction of a connection that was dialled to an entry."""

    def __init__(self, network: SimNetwork, source: str, target: str, entry: str) -> None:
        self.source = source
        self.target = target
        self.entry = entry
        self._network = network
        self._moving: deque[tuple[float, bytes]] = deque()  # time of arrival, content
        self._bytes = 0
        self._last = trio.current_time()
        self._ends: float | None = None
        self._ignored = False
        self._space = trio.Event()
        self._receiver: trio.CancelScope | None = None
        network.opened(self)

    def poke(self) -> None:
        """Wake both ends, so that they check their conditions again."""
        self._space.set()
        if self._receiver is not None:
            self._receiver.deadline = self._due()

    def finish(self, *, lose: bool = False) -> None:
        """End the direction at its source; messages on their way may be lost."""
        if lose:
            self._moving.clear()
            self._bytes = 0
        if self._ends is None:
            self._ends = self._arrival()
        self.poke()

    def ignore(self) -> None:
        """End the direction at its target: nothing is received any more, which the sender can't know."""
        self._ignored = True
        self._moving.clear()
        self._bytes = 0
        self._network.forget(self)
        self.poke()

    @property
    def over(self) -> bool:
        """Whether nothing more can be sent."""
        return self._ends is not None

    def takes(self, data: bytes) -> bool:
        """Whether a message fits into the buffer. When the direction has ended, any message is taken, and dropped."""
        return self.over or not self._bytes or self._bytes + len(data) <= self._network.buffer_bytes

    async def wait_takes(self, data: bytes) -> None:
        """Return when a message fits into the buffer."""
        await trio.lowlevel.checkpoint()
        while not self.takes(data):
            self._space = trio.Event()
            await self._space.wait()

    def put(self, data: bytes) -> None:
        """Send a message."""
        if self.over or self._ignored:
            return
        self._network.tap(self.source, self.target, data)
        self._moving.append((self._arrival(), data))
        self._bytes += len(data)
        if self._receiver is not None:
            self._receiver.deadline = self._due()

    async def get(self) -> bytes:
        """Receive the next message."""
        await trio.lowlevel.checkpoint()
        while self._due() > trio.current_time():
            with trio.CancelScope(deadline=self._due()) as self._receiver:
                await trio.sleep_forever()
        self._receiver = None
        if not self._moving:
            self._network.forget(self)
            raise LinkClosed("the connection was closed")
        _, data = self._moving.popleft()
        self._bytes -= len(data)
        self._space.set()
        self._network.arrived(self.source, self.target, data)
        return data

    def _due(self) -> float:
        """When the receiver can take the next message, or the end."""
        due = self._moving[0][0] if self._moving else self._ends
        stopped = self.entry in self._network.shut or not self._network.flows(self.source, self.target)
        return inf if due is None or stopped else due

    def _arrival(self) -> float:
        self._last = max(self._last, trio.current_time() + self._network.some_delay())
        return self._last


class SimLink(Link):
    """One end of a connection.

    Args:
        there: the direction in which this end sends.
        back: the direction from which this end receives.
    """

    remote: str = ""

    def __init__(self, there: Pipe, back: Pipe) -> None:
        self.remote = there.target
        self._there = there
        self._back = back
        self._closed = False
        self._unsent: deque[bytes] = deque()

    @property
    def unsent(self) -> int:
        return sum(map(len, self._unsent))

    def post(self, data: bytes) -> None:
        if self._unsent or not self._there.takes(data):
            self._unsent.append(data)
        else:
            self._there.put(data)

    async def flush(self) -> None:
        for _ in tuple(self._unsent):
            await self._there.wait_takes(self._unsent[0])
            self._there.put(self._unsent.popleft())
        if self._there.over:
            raise LinkClosed("the connection is closed")

    async def receive(self) -> bytes | str | None:
        if self._closed:
            raise LinkClosed("the connection is closed")
        try:
            return await self._back.get()
        except LinkClosed:
            self._there.finish(lose=True)
            raise

    def close(self) -> None:
        """Close the connection. The other end learns of it later, and what it sends from now on is lost."""
        self._closed = True
        self._there.finish()
        self._back.ignore()


class SimTransport(Transport):
    """The transport of one node.

    Args:
        network: the network.
        address: the node's own address.
        knows_itself: whether the node recognizes its own address, or has to dial it to find out.
    """

    def __init__(self, network: SimNetwork, address: str, *, knows_itself: bool) -> None:
        self._network = network
        self._address = address
        self._knows_itself = knows_itself
        self._ends = network.ends[address]  # how many nodes have ended at this address before

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Link]:
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                link = await self._network.dial(self._address, address)
        except trio.TooSlowError:
            raise LinkClosed("no connection in time") from None
        if self._network.ends[self._address] != self._ends:  # the node has ended while it dialled
            link.close()
            raise LinkClosed("the node has ended")
        try:
            yield link
        finally:
            link.close()

    async def is_self(self, address: str) -> bool | None:
        await trio.sleep(0.0005)  # a lookup of names takes a moment
        return self._knows_itself and self._network.names.leads_to(self._address, address) == self._address

    async def stands_for(self, address: str) -> frozenset[str] | None:
        return frozenset({self._network.names.leads_to(self._address, address)})
