"""The two ends of a link as state machines: what to push, and what to make of a push.

State is only ever pushed by the end that dialled, one unacknowledged push at a time, and nothing is queued: what a slow
peer lacks is computed from the state when it can take it, so that a link costs O(counters), never O(history).

    Pusher (dialled)                          Intake (accepted)
    idle --next_push--> waiting               collecting --last parcel--> the deltas, whole
    waiting --acked--> idle                   (joined and synced by the node, then acknowledged)
    waiting --acked, refused--> idle, and quiet for a second
"""

from collections.abc import Iterator
from itertools import chain

from gcount.core.counters import Counters, Delta, Digest
from gcount.core.limits import MAX_INCARNATIONS, PUSH_BYTES, PUSH_CELLS
from gcount.core.membership import Membership
from gcount.core.parcels import Assembly, pack
from gcount.core.records import Identity
from gcount.core.wire import Ack, Push
from gcount.errors import ProtocolError

PACE = 0.01  # seconds between two pushes on a link
URGENT_FOR = 1.0  # seconds after somebody waited
RELAY_AFTER = 1.0  # seconds that another node has to tell its own news before it is relayed
REFUSED_PAUSE = 1.0  # seconds before a peer whose disk is full is asked again
LEFT_PAUSE = 1.0  # seconds before an incarnation that a peer left is offered again, doubled each time
LEFT_PAUSE_MOST = 8.0


class Pusher:
    """The end that dialled: decides what the peer needs next.

    Args:
        digest: what the peer said in its hello that it has on disk.
        now: the current time, in seconds.
    """

    def __init__(self, digest: Digest, now: float) -> None:
        self.peer: Digest = dict(digest)
        self._number = 0
        self._parcels: Iterator[tuple[bool, list[Delta]]] | None = None
        self._promised: Digest = {}  # what the push under way will bring the peer to
        self._waiting = False
        self._left: dict[bytes, tuple[int, float]] = {}  # what the peer did not take: how often, and until when to wait
        self._quiet_until = now
        self.paced_until = now  # when the next push may go: under load, each carries what has come together
        self._urgent_until = now
        self._overdue: Digest = {}
        self._seen: Digest = {}
        self._seen_at = now

    def hasten(self, now: float) -> None:
        """Somebody waits for the peer to have what it lacks: for a second no push waits for company.

        Who waits once will wait again, and by then the push is under way.
        """
        self._urgent_until = now + URGENT_FOR
        self.paced_until = min(self.paced_until, now)

    def next_push(self, counters: Counters, own: Identity, now: float) -> Push | None:
        """What to send now, if anything.

        Args:
            counters: the durable state.
            own: whose changes are pushed at once; those of others are relayed when they are overdue.
            now: the current time, in seconds.
        """
        if self._waiting or now < self._quiet_until:
            return None
        if self._parcels is None:
            if now < self.paced_until:
                return None
            promised, pieces = self._lacking(counters, own, now)
            if not promised:
                return None
            self._promised = promised
            self._parcels = _marking_last(pack(pieces, PUSH_BYTES))
            self.paced_until = now if now < self._urgent_until else now + PACE
        last, parcel = next(self._parcels)
        if last:
            self._parcels = None
        self._number += 1
        self._waiting = True
        return Push(self._number, last, parcel, now < self._urgent_until)

    def acked(self, ack: Ack, now: float) -> None:
        """The peer answered the push under way.

        Raises:
            ProtocolError: no push is under way, or it is another one.
        """
        if not self._waiting or ack.number != self._number:
            raise ProtocolError(f"push {ack.number} was acknowledged, but {self._number} is the newest one")
        self._waiting = False
        self.learned(ack.digest)
        if ack.refused:
            self._parcels = None
            self._quiet_until = now + REFUSED_PAUSE
        elif self._parcels is None:
            for incarnation, upto in self._promised.items():
                self._note(incarnation, now, taken=self.peer.get(incarnation, 0) >= upto)

    def _note(self, incarnation: bytes, now: float, *, taken: bool) -> None:
        if taken:
            self._left.pop(incarnation, None)
        else:
            times = self._left.get(incarnation, (0, now))[0]
            self._left[incarnation] = times + 1, now + min(LEFT_PAUSE * 2.0**times, LEFT_PAUSE_MOST)

    def learned(self, digest: Digest) -> None:
        """The peer told which versions it has on disk.

        Raises:
            ProtocolError: they are of more incarnations than there can be.
        """
        self.peer.update(digest)
        if len(self.peer) > MAX_INCARNATIONS:
            raise ProtocolError(f"it claims to know more than {MAX_INCARNATIONS} incarnations")

    def lag(self, counters: Counters) -> int:
        """How many versions, of all incarnations, the peer has not acknowledged."""
        return sum(max(0, version - self.peer.get(who, 0)) for who, version in counters.digest().items())

    def _lacking(self, counters: Counters, own: Identity, now: float) -> tuple[Digest, Iterator[Delta]]:
        """What a push would bring the peer to, and the pieces of its deltas, made when they are asked for."""
        digest = counters.digest()
        if now - self._seen_at >= RELAY_AFTER:
            self._overdue, self._seen, self._seen_at = self._seen, digest, now
        promised: Digest = {}
        found: list[Iterator[Delta]] = []
        room = PUSH_CELLS
        for incarnation, version in digest.items():
            if room <= 0:
                break  # the rest with the next push: each of them has to fit into what the peer keeps aside
            has = self.peer.get(incarnation, 0)
            if incarnation in self._left and now < self._left[incarnation][1]:
                continue
            if has < version and (own.owns(incarnation) or has < self._overdue.get(incarnation, 0)):
                most, pieces = counters.newer(incarnation, has)
                promised[incarnation] = version
                found.append(pieces)
                room -= most
        return promised, chain.from_iterable(found)


def _marking_last(parcels: Iterator[list[Delta]]) -> Iterator[tuple[bool, list[Delta]]]:
    held = next(parcels)
    for parcel in parcels:
        yield False, held
        held = parcel
    yield True, held


class Intake:
    """The end that accepted: puts parcels together and remembers what the peer was told.

    Args:
        max_cells: how many cells may be kept aside.
        digest: what the peer was told in the hello.
        membership: the newest that the peer is known to know.
    """

    def __init__(self, max_cells: int, digest: Digest, membership: Membership) -> None:
        self.membership = membership
        self._max_cells = max_cells
        self._told = dict(digest)
        self._assembly = Assembly()
        self._number = 0
        self._busy = False

    @property
    def aside(self) -> int:
        """How many cells are kept aside."""
        return self._assembly.cells

    def pushed(self, push: Push) -> list[Delta] | None:
        """A push arrived.

        Returns:
            The whole deltas with the last parcel, else None: acknowledge it at once.

        Raises:
            ProtocolError: a push is under way already, a number is skipped, or more is kept aside than allowed.
        """
        if self._busy or push.number != self._number + 1:
            raise ProtocolError(f"push {push.number} arrived while push {self._number} was the newest one")
        self._number = push.number
        self._assembly.add(push.deltas)
        if self._assembly.cells > self._max_cells:
            raise ProtocolError(f"a push of more than {self._max_cells} cells")
        if len(self._assembly) > MAX_INCARNATIONS:  # a node has one delta of each at most
            raise ProtocolError(f"a push of more than {MAX_INCARNATIONS} deltas")
        if not push.last:
            return None
        self._busy = True
        return self._assembly.take()

    def ack(self, digest: Digest, refused: str = "") -> Ack:
        """The answer to the newest push.

        Args:
            digest: what is on disk now.
            refused: why the push was not taken.
        """
        self._busy = False
        return Ack(self._number, self.news(digest), refused)

    def news(self, digest: Digest) -> Digest:
        """Which versions changed since the peer was told last."""
        news = {who: version for who, version in digest.items() if self._told.get(who) != version}
        self._told.update(news)
        return news

    def newer_membership(self, own: Membership) -> Membership | None:
        """This node's membership, if the peer may not know it yet."""
        if self.membership.merge(own) == self.membership:
            return None
        self.membership = own
        return own
