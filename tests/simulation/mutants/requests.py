"""Planted bugs that show only with many increments at once, large states, or clients that wait for other members."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import trio

from gcount.cluster.links.peer import Peer
from gcount.core.format import log_records
from gcount.core.format.chunks import Assembly
from gcount.core.format.frames import read_frame
from gcount.core.format.log_records import Scan
from gcount.core.protocol import replication
from gcount.core.protocol.replication import DeltaReceiver, DeltaSender
from gcount.core.state.batch import Batch
from gcount.core.state.columns import Column
from gcount.core.state.counters import Delta
from gcount.core.writes.increments import Asked, Outcome, flat
from gcount.node.increments import Increments
from gcount.node.reads import Reads
from tests.simulation.mutants.planted import mutant


@mutant(Increments, "run")
def request_in_two_commits(run: Any) -> Any:
    """The first half of many increments is committed before the rest is staged."""

    async def change(self: Increments, asked: Asked) -> Outcome:
        items = list(flat(asked))
        half = len(items) // 2
        first: Outcome = await run(self, items[:half])
        rest: Outcome = await run(self, items[half:])
        return Outcome([*first.values, *rest.values], rest.position, first.refused or rest.refused)

    return change


@mutant(DeltaSender, "acked")
def held_when_its_first_chunk_is(acked: Any) -> Any:
    """The acknowledgement of any chunk counts for the whole transfer."""

    def change(self: DeltaSender, ack: Any, now: float) -> None:
        transfer = self._transfer
        acked(self, ack, now)
        self.peer.update(transfer.promised if transfer else {})

    return change


@mutant(Peer, "linked")
def held_as_the_former_link_said(linked: Any) -> Any:
    """What a member said on one link counts on the next link, though it may have lost its directory between them."""

    def change(self: Peer, channel: Any, hello: Any, *rest: Any) -> None:
        digest = dict(hello.digest)
        for who, version in (self._last_sender.peer if self._last_sender else {}).items():
            digest[who] = max(version, digest.get(who, 0))
        linked(self, channel, msgspec.structs.replace(hello, digest=digest), *rest)

    return change


@mutant(Reads, "_wait_to_be_known")
def own_value_at_once(_: Any) -> Any:
    """A node without a config answers reads before members could have reached it."""

    async def change(self: Reads, name: str, deadline: float) -> None:
        await trio.lowlevel.checkpoint()

    return change


@mutant(DeltaReceiver, "pushed")
def chunk_joined_by_itself(pushed: Any) -> Any:
    """Each chunk of a transfer is joined as it comes."""

    def change(self: DeltaReceiver, push: Any) -> list[Delta]:
        pushed(self, push)
        self._busy = True
        self._assembly.take()
        return list(push.deltas)

    return change


@mutant(Assembly, "add")
def pieces_of_one_delta_only(add: Any) -> Any:
    """A piece is added to the delta that was detached last, even if that is another delta."""

    def change(self: Assembly, chunk: Iterable[Delta]) -> None:
        for piece in chunk:
            last = self._whole[-1] if self._whole else piece
            add(self, [Delta(last.incarnation, last.after, last.upto, piece.cells)])

    return change


@mutant(replication, "pack")
def cell_at_the_seam_left_out(pack: Any) -> Any:
    """A cell that does not fit into a chunk any more is not in the next one either."""

    def change(deltas: Iterable[Delta], size: int, most: int) -> Iterator[list[Delta]]:
        for number, chunk in enumerate(pack(deltas, size, most)):
            for delta in chunk[:1] if number else ():
                delta.cells.pop(next(iter(delta.cells), ""), None)
            yield chunk

    return change


@mutant(Scan, "__iter__")
def batch_taken_without_its_last_frame(iterate: Any) -> Any:
    """A start counts a batch of which the last frame is missing."""

    def change(self: Scan) -> Iterator[Batch]:
        yield from iterate(self)
        if self.damage is not None and self.damage.torn:
            for payload in _frames(self._data, self.end):
                part = log_records._decode_payload(payload)
                if part.number == self.next_batch and part.part == 1 < part.parts:
                    self.next_batch += 1
                    yield Batch(part.number, part.deltas, None, None)

    return change


def _frames(data: bytes, offset: int) -> Iterator[bytes]:
    while True:
        try:
            payload, offset = read_frame(data, offset)
        except ValueError:
            return
        yield payload


@mutant(Column, "_fit_order")
def order_grows_and_drops_unseen(_: Any) -> Any:
    """A column that remembers more changes from now on forgets that it has dropped some before."""

    def change(self: Column) -> None:
        most = self._options.column_recent_most
        recent = min(2 * len(self.cells), most)
        if (self._when.maxlen or 0) < min(len(self.cells), most):
            self._changed, self._when = deque(self._changed, recent), deque(self._when, recent)

    return change


@mutant(Column, "newer")
def order_trusted_beyond_its_reach(newer: Any) -> Any:
    """A peer whose version is older than the oldest remembered change gets only the remembered changes."""

    def change(self: Column, version: int) -> tuple[int, Iterator[list[tuple[int, int]]]]:
        if len(self._when) and self._when[0] <= version + 2:
            version = max(version, self._when[0])
        answer: tuple[int, Iterator[list[tuple[int, int]]]] = newer(self, version)
        return answer

    return change
