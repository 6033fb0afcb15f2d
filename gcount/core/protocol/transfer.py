"""What the end of a link that pushes has under way, and what it owes the other end."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf

from gcount.core.state.counters import Delta, Digest

OFFER_PAUSE = 1.0  # seconds before what a peer did not keep is offered again, doubled each time
OFFER_PAUSE_MOST = 64.0


class Transfer:
    """Parcels that bring a peer to what they promise, of the state as it was when the first one was cut.

    Args:
        promised: the versions that the peer has when it has taken all of them.
        parcels: of all the deltas.
        given_back: the delta, if it was detached and is given back; then nothing is promised.
    """

    def __init__(self, promised: Digest, parcels: Iterator[list[Delta]], given_back: Delta | None = None) -> None:
        assert given_back is None or not promised, "what is given back promises nothing"
        self.promised = promised
        self.given_back = given_back
        self.id = 0  # it gets one when there is more than one parcel
        self._parcels = _marking_last(parcels)
        self._acknowledged = 0
        self._last = False
        self._under_way: list[Delta] | None = None

    def next(self, draw: Callable[[], int]) -> tuple[bool, list[Delta]]:
        """The parcel to be sent now, and whether it is the last one.

        Args:
            draw: gives an id, if one is needed.
        """
        if self._under_way is None:
            assert not self._last, "nothing follows the last parcel"
            self._last, self._under_way = next(self._parcels)
            if not self._last:
                self.id = self.id or draw()
        return self._last, self._under_way

    def acked(self) -> bool:
        """The peer has the parcel that was sent; returns whether it was the last one."""
        assert self._under_way is not None, "only what was sent is acknowledged"
        self._acknowledged += 1
        self._under_way = None
        return self._last

    def goes_on(self, digest: Digest, kept: int) -> bool:
        """Whether another link can go on with it; the parcel that was not acknowledged may have arrived or not.

        Args:
            digest: what the peer has on disk by now.
            kept: how many parcels it says it has buffered.
        """
        there = [digest.get(who, 0) >= version for who, version in self.promised.items()]
        if kept == 0 or (there and all(there)):
            return False
        if kept == self._acknowledged + 1 and self._under_way is not None and not self._last:
            self.acked()
        return kept == self._acknowledged


class Owed:
    """What this node has detached of a peer's former lives, until the peer has all of it on its disk.

    Args:
        deltas: each of them is given back by itself, so that nothing else waits for all of them.
        now: the current time, in seconds.
    """

    def __init__(self, deltas: Iterable[Delta], now: float) -> None:
        self._deltas = deque(deltas)
        self._due = now
        self._in_vain = 0

    def __bool__(self) -> bool:
        return bool(self._deltas)

    def next(self, now: float) -> Delta | None:
        """What to give back now, if anything."""
        return self._deltas[0] if self._deltas and now >= self._due else None

    def answered(self, delta: Delta, now: float, *, kept: bool) -> None:
        """One was given back.

        Args:
            delta: which.
            now: the current time, in seconds.
            kept: whether it is on the peer's disk; if not, another one is tried after a while.
        """
        if kept:
            self._deltas = deque(other for other in self._deltas if other is not delta)
            self._in_vain, self._due = 0, now
        else:
            self._deltas.rotate(-1)
            self._due = now + min(OFFER_PAUSE * 2.0**self._in_vain, OFFER_PAUSE_MOST)
            self._in_vain = min(self._in_vain + 1, 10)

    def offer_again(self) -> None:
        """The peer may keep now what it did not keep before."""
        self._in_vain, self._due = 0, -inf


def _marking_last(parcels: Iterator[list[Delta]]) -> Iterator[tuple[bool, list[Delta]]]:
    held = next(parcels)
    for parcel in parcels:
        yield False, held
        held = parcel
    yield True, held
