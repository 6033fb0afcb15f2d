"""Where today's code has what the recordings are about: the only file here that a move or a new name concerns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random

from gcount.cluster.links.transport import Link, Transport
from gcount.core.format.checkpoint import Capture, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.log_records import (
    CHECKPOINT_MAGIC,
    HEADER_BYTES,
    MAGIC,
    Header,
    Scan,
    decode_header,
    encode_batch,
)
from gcount.core.protocol import messages
from gcount.core.protocol.counter_views import Told
from gcount.core.state.batch import Batch, Needs
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.increments import Raise
from gcount.errors import LinkClosed
from gcount.node.node import Node, open_node
from gcount.settings import Settings
from gcount.storage.disk import RealDisk
from tests.compatibility.samples import Code
from tests.fakes.counting import accepted, add

MAX_COUNTERS = 1_000_000
WALL_CLOCK = 1_764_000_000.0  # seconds


class NoNetwork(Transport):
    """Nobody can be reached."""

    def connect(self, address: str) -> AbstractAsyncContextManager[Link]:
        raise AssertionError(f"{address} was dialled")

    async def is_self(self, address: str) -> bool | None:
        raise AssertionError(f"{address} was asked for")

    async def stands_for(self, address: str) -> frozenset[str] | None:
        raise AssertionError(f"{address} was asked for")


class NobodyThere(Transport):
    """No address that is dialled can be reached."""

    def connect(self, address: str) -> AbstractAsyncContextManager[Link]:
        raise LinkClosed(f"{address} can't be reached")

    async def is_self(self, address: str) -> bool | None:
        return False

    async def stands_for(self, address: str) -> frozenset[str] | None:
        return None


def encode_header(header: Header, of_checkpoint: bool) -> bytes:
    return header.encode(CHECKPOINT_MAGIC if of_checkpoint else MAGIC)


def read_segment(data: bytes) -> tuple[Header, list[Batch]]:
    header = decode_header(data)
    scan = Scan(data, header.first_batch)
    batches = list(scan)
    assert scan.damage is None
    assert scan.end == len(data) >= HEADER_BYTES
    return header, batches


def blank(identity: Identity) -> Replica:
    return Replica(identity, MAX_COUNTERS)


def replay(identity: Identity, batches: Iterable[Batch]) -> Replica:
    replica = blank(identity)
    for batch in batches:
        replica.apply(batch)
    return replica


def read_checkpoint(data: bytes) -> tuple[Header, Replica]:
    reader, restore = Reader(), Restore(blank(Identity(bytes(16), bytes(16))))
    for record in reader.feed(data, last=True):
        restore.take(record)
    restore.finish()
    assert reader.header is not None
    return reader.header, restore.replica


def write_checkpoint(replica: Replica, live: Header) -> bytes:
    capture = Capture(replica, live)
    data = capture.header.encode(CHECKPOINT_MAGIC) + b"".join(map(encode_record, capture.records()))
    capture.close()
    return data


@asynccontextmanager
async def open_seeded(
    folder: Path, seed: int, network: Transport | None = None, now: float = WALL_CLOCK
) -> AsyncIterator[Node]:
    settings = Settings(1, "127.0.0.1", 7777, folder, 5.0, "", MAX_COUNTERS, "text")
    disk = RealDisk(folder)
    try:
        async with open_node(
            settings, disk, network or NoNetwork(), random=Random(seed), wall_clock=lambda: now
        ) as node:
            await node.wait_ready()
            yield node
    finally:
        disk.close()


async def increment(node: Node, name: str, amount: int) -> None:
    await add(node, name, amount)


async def increment_once(node: Node, name: str, id_: str, amount: int) -> tuple[int, bool]:
    """Increment with an id; returns the value, and whether the increment was known already."""
    outcome = await node.count([Raise(name, id_, amount, once=True)])
    return accepted(outcome.values[0]), outcome.replayed


async def make_checkpoint(node: Node) -> None:
    await node.checkpoints.make(node.replica)


TODAY = Code(
    classes={
        "Hello": messages.Hello,
        "Refused": messages.Refused,
        "Push": messages.Push,
        "Ack": messages.Ack,
        "Beat": messages.Heartbeat,
        "Beaten": messages.HeartbeatAck,
        "Collect": messages.ReadCells,
        "Collected": messages.CellsReply,
        "Release": messages.Release,
        "Members": messages.Members,
        "Membership": Membership,
        "Delta": Delta,
        "Identity": Identity,
        "Keyed": Keyed,
        "Told": Told,
        "Needs": Needs,
        "Settlement": Settlement,
        "Header": Header,
        "Batch": Batch,
    },
    fields={"Hello": {"twin": "duplicate", "boot": "start_id"}},
    protocol=messages.PROTOCOL,
    encode=messages.encode,
    decode=messages.decode,
    encode_header=encode_header,
    encode_batch=encode_batch,
    read_segment=read_segment,
    replay=replay,
    read_checkpoint=read_checkpoint,
    write_checkpoint=write_checkpoint,
    open_node=open_seeded,
    increment=increment,
    make_checkpoint=make_checkpoint,
)
