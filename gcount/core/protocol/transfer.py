"""The sender's side of replication: the transfer under way, what the peer did not take, and what it is owed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf

from gcount.core.state.counters import Delta, Digest

OFFER_PAUSE = 1.0  # seconds before a delta that a peer did not keep is offered again, doubled each time
OFFER_PAUSE_MOST = 64.0
UNTAKEN_PAUSE = 1.0  # seconds before an incarnation that a peer did not take is offered again, doubled each time
UNTAKEN_PAUSE_MOST = 8.0


class Transfer:
    """All chunks of one transfer. They hold the state as it was when the first chunk was cut.

    Args:
        promised: the versions that the peer has when it has taken all chunks.
        chunks: the chunks, each cut when it is asked for.
        given_back: the detached delta, if the transfer gives one back; then nothing is promised.
        needs: what the peer has to know to take it: by settler, its version with the newest settlement that the sender
            knew when the first chunk was cut. Entries that these settlements cover are in no chunk.

    Attributes:
        id: identifies the transfer on other links; 0 for a transfer of one chunk, which needs no id.
    """

    def __init__(
        self,
        promised: Digest,
        chunks: Iterator[list[Delta]],
        given_back: Delta | None = None,
        needs: Digest | None = None,
    ) -> None:
        assert given_back is None or not promised, "what is given back promises nothing"
        self.promised = promised
        self.given_back = given_back
        self.needs = needs or {}
        self.id = 0
        self._chunks = _marking_last(chunks)
        self._acknowledged = 0  # chunks
        self._last = False
        self._under_way: list[Delta] | None = None

    def next(self, draw: Callable[[], int]) -> tuple[bool, list[Delta]]:
        """The chunk to be sent now, and whether it is the last one. A chunk that was not acknowledged is sent again.

        Args:
            draw: returns an id, if one is needed.
        """
        if self._under_way is None:
            assert not self._last, "nothing follows the last chunk"
            self._last, self._under_way = next(self._chunks)
            if not self._last:
                self.id = self.id or draw()
        return self._last, self._under_way

    def acked(self) -> bool:
        """Note that the peer has the chunk that was sent; returns whether it was the last one."""
        assert self._under_way is not None, "only what was sent is acknowledged"
        self._acknowledged += 1
        self._under_way = None
        return self._last

    def goes_on(self, digest: Digest, kept: int) -> bool:
        """Whether another link can continue the transfer.

        The chunk that was not acknowledged on the former link may have arrived or not. The peer's answer shows which.

        Args:
            digest: the versions that the peer has on disk by now.
            kept: how many chunks it says it has kept.
        """
        # In any doubt it is not continued: with a chunk missing, the transfer would claim cells that it does not hold.
        there = [digest.get(incarnation, 0) >= version for incarnation, version in self.promised.items()]
        if kept == 0 or (there and all(there)):
            return False
        if kept == self._acknowledged + 1 and self._under_way is not None and not self._last:
            self.acked()  # the chunk had arrived, and only its acknowledgement was lost
        return kept == self._acknowledged


class Untaken:
    """What a peer did not take, as it is at a limit, or does not take it from this node."""

    def __init__(self) -> None:
        self._by: dict[bytes, tuple[int, float]] = {}  # by incarnation: how often not taken, until when to wait

    def waits(self, incarnation: bytes, now: float) -> bool:
        """Whether an incarnation is not offered again yet."""
        return incarnation in self._by and now < self._by[incarnation][1]

    def note(self, incarnation: bytes, now: float, *, taken: bool) -> None:
        """Remember whether the peer took an incarnation that was pushed."""
        if taken:
            self._by.pop(incarnation, None)
        else:
            times = self._by.get(incarnation, (0, now))[0]
            self._by[incarnation] = times + 1, now + min(UNTAKEN_PAUSE * 2.0**times, UNTAKEN_PAUSE_MOST)

    def offer_again(self) -> None:
        """End all pauses, as the peer may take now what it did not take before."""
        self._by.clear()


def settlers_lacking(needs: Digest, peer: Digest) -> list[bytes]:
    """The settlers of which a peer lacks a settlement.

    Args:
        needs: by settler, its version with its newest settlement.
        peer: what the peer has on disk.
    """
    return [settler for settler, version in needs.items() if peer.get(settler, 0) < version]


class Owed:
    """Detached deltas of a peer's former incarnations, until the peer has all of them on its disk.

    Args:
        deltas: the deltas. Each is given back by itself, so that other pushes do not wait for all of them.
        now: the current time, in seconds.
    """

    def __init__(self, deltas: Iterable[Delta], now: float) -> None:
        self._deltas = deque(deltas)
        self._due = now
        self._in_vain = 0

    def __bool__(self) -> bool:
        return bool(self._deltas)

    def next(self, now: float) -> Delta | None:
        """The delta to give back now; None when there is none, or its pause is not over."""
        return self._deltas[0] if self._deltas and now >= self._due else None

    def answered(self, delta: Delta, now: float, *, kept: bool) -> None:
        """Take the peer's answer to a delta that was given back.

        Args:
            delta: the delta.
            now: the current time, in seconds.
            kept: whether it is on the peer's disk. If not, the next delta is tried after a pause.
        """
        if kept:
            self._deltas = deque(other for other in self._deltas if other is not delta)
            self._in_vain, self._due = 0, now
        else:
            self._deltas.rotate(-1)
            self._due = now + min(OFFER_PAUSE * 2.0**self._in_vain, OFFER_PAUSE_MOST)
            self._in_vain = min(self._in_vain + 1, 10)

    def offer_again(self) -> None:
        """End the pause, as the peer may keep now what it did not keep before."""
        self._in_vain, self._due = 0, -inf


def _marking_last(chunks: Iterator[list[Delta]]) -> Iterator[tuple[bool, list[Delta]]]:
    """Each chunk, and whether it is the last one; so each is cut one step before it is sent."""
    before = next(chunks)
    for chunk in chunks:
        yield False, before
        before = chunk
    yield True, before
