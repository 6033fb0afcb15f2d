"""The two ends of a link as state machines: what to push, and what to make of a push.

State is only ever pushed by the end that dialled, one unacknowledged push at a time, and nothing is queued: what a slow
peer lacks is computed from the state when it can take it, so that a link costs O(counters), never O(history).

    DeltaSender (dialled)                     DeltaReceiver (accepted)
    idle --next_push--> waiting               collecting --last parcel--> the deltas, whole
    waiting --acked--> idle                   (joined and synced by the node, then acknowledged)
    waiting --acked, refused--> idle, and quiet for a second

The parcels up to a last one are a *transfer*. When the link is lost in its midst, both ends keep what they have of it,
and the next link of the same two lives goes on where the accepting end says that it is. In any doubt the sender
begins anew, from what the peer says that it has on disk.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from gcount.core.format.chunks import Assembly, pack
from gcount.core.limits import MAX_INCARNATIONS
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.messages import Ack, Push
from gcount.core.protocol.transfer import Owed, Transfer
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.errors import ProtocolError

URGENT_FOR = 1.0  # seconds after somebody waited
REFUSED_PAUSE = 1.0  # seconds before a peer whose disk is full is asked again
LEFT_PAUSE = 1.0  # seconds before an incarnation that a peer left is offered again, doubled each time
LEFT_PAUSE_MOST = 8.0


class DeltaSender:
    """The end that dialled: decides what the peer needs next.

    Args:
        digest: what the peer said in its hello that it has on disk.
        now: the current time, in seconds.
        draw: gives ids to transfers; 0: another link can't go on with them.
        transfer: to go on with, if there is one.
        detached: what this node has of the peer's former lives behind gaps, to be given back.
        options: sizes of pushes, and pauses between them.
    """

    def __init__(
        self,
        digest: Digest,
        now: float,
        draw: Callable[[], int] = lambda: 0,
        transfer: Transfer | None = None,
        detached: Iterable[Delta] = (),
        options: Options = DEFAULTS,
    ) -> None:
        self._options = options
        self.peer: Digest = dict(digest)
        self._number = 0
        self._draw = draw
        self._transfer = transfer
        self._owed = Owed(detached, now)
        self._gave_back = False  # with the transfer before
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
        if self._transfer is None:
            if now < self.paced_until:
                return None
            self._transfer = self._next_transfer(counters, own, now)
            if self._transfer is None:
                return None
            self.paced_until = now if now < self._urgent_until else now + self._options.push_interval
        last, parcel = self._transfer.next(self._draw)
        self._number += 1
        self._waiting = True
        return Push(self._number, last, parcel, now < self._urgent_until, self._transfer.id)

    def acked(self, ack: Ack, now: float) -> None:
        """The peer answered the push under way.

        Raises:
            ProtocolError: no push is under way, or it is another one.
        """
        transfer = self._transfer
        if not self._waiting or ack.number != self._number or transfer is None:
            raise ProtocolError(f"push {ack.number} was acknowledged, but {self._number} is the newest one")
        self._waiting = False
        self.learned(ack.digest)
        if ack.refused:
            self._transfer = None
            self._quiet_until = now + REFUSED_PAUSE
        elif transfer.acked():
            self._transfer = None
            if transfer.given_back is not None:
                self._owed.answered(transfer.given_back, now, kept=ack.kept)
            for incarnation, upto in transfer.promised.items():
                self._note(incarnation, now, taken=self.peer.get(incarnation, 0) >= upto)

    def offer_again(self) -> None:
        """The peer may take now what it did not take when this node was no member yet, or it had not met it."""
        self._owed.offer_again()
        self._left.clear()

    def interrupted(self) -> Transfer | None:
        """The link is lost: the transfer that another one can go on with, if there is one."""
        transfer, self._transfer = self._transfer, None
        return transfer if transfer is not None and transfer.id else None

    @property
    def owes(self) -> bool:
        """Whether something that is detached of the peer's former lives may not be on its disk yet."""
        return bool(self._owed)

    def _next_transfer(self, counters: Counters, own: Identity, now: float) -> Transfer | None:
        """What is owed is given back one delta at a time, in turn with what else is to be pushed."""
        delta = self._owed.next(now)
        if self._gave_back or delta is None:
            promised, pieces = self._lacking(counters, own, now)
            self._gave_back = False
            if promised:
                return Transfer(promised, self._parcels(pieces))
        if delta is None:
            return None
        self._gave_back = True
        return Transfer({}, self._parcels([delta]), delta)

    def _parcels(self, deltas: Iterable[Delta]) -> Iterator[list[Delta]]:
        return pack(deltas, self._options.push_bytes, self._options.chunk_deltas)

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
        if now - self._seen_at >= self._options.relay_after:
            self._overdue, self._seen, self._seen_at = self._seen, digest, now
        promised: Digest = {}
        found: list[Iterator[Delta]] = []
        room = self._options.push_cells
        for incarnation, version in digest.items():
            if room <= 0:
                break  # the rest with the next push: each of them has to fit into what the peer buffers
            has = self.peer.get(incarnation, 0)
            if incarnation in self._left and now < self._left[incarnation][1]:
                continue
            if has < version and (own.owns(incarnation) or has < self._overdue.get(incarnation, 0)):
                most, pieces = counters.newer(incarnation, has)
                promised[incarnation] = version
                found.append(pieces)
                room -= most
        return promised, chain.from_iterable(found)


class DeltaReceiver:
    """The end that accepted: puts parcels together and remembers what the peer was told.

    Args:
        max_cells: how many cells of an unfinished push may be buffered.
        digest: what the peer was told in the hello.
        membership: the newest that the peer is known to know.
        assembly: what another link left of a transfer; the peer goes on with it or begins anew.
    """

    def __init__(
        self, max_cells: int, digest: Digest, membership: Membership, assembly: Assembly | None = None
    ) -> None:
        self.membership = membership
        self._max_cells = max_cells
        self._told = dict(digest)
        self._assembly = Assembly() if assembly is None else assembly
        self._taken: list[Delta] = []  # whole, but not acknowledged
        self._number = 0
        self._acknowledged = 0  # the newest push that was
        self._busy = False
        self._over = False
        self.given_up = False  # the rest of the transfer under way is to be refused

    @property
    def buffered(self) -> int:
        """How many cells of an unfinished push are buffered."""
        return self._assembly.cells

    @property
    def transfer(self) -> int:
        """The transfer under way that another link could go on with; 0 when there is none."""
        return self._assembly.transfer

    def deltas(self) -> Iterator[Delta]:
        """What came and is not acknowledged as a whole."""
        return chain(self._assembly, self._taken)

    def leave(self) -> Assembly | None:
        """Take nothing more on this link: what there is of a transfer that another one can go on with."""
        left, self._assembly, self._over = self._assembly, Assembly(), True
        return left if left.transfer and left.parcels else None

    def give_up(self) -> None:
        """Drop what there is of the transfer under way; the sender begins anew when its next parcel is refused."""
        self._assembly, self.given_up = Assembly(), True

    def pushed(self, push: Push) -> list[Delta] | None:
        """A push arrived.

        Returns:
            The whole deltas with the last parcel, else None: acknowledge it at once, or refuse it if it was given up.

        Raises:
            ProtocolError: a push is under way already, a number is skipped, another link took over, or more is
                buffered than allowed.
        """
        if self._busy or push.number != self._number + 1:
            raise ProtocolError(f"push {push.number} arrived while push {self._number} was the newest one")
        if self._over:  # the rest of a transfer must never be taken for the whole
            raise ProtocolError(f"push {push.number} arrived after another link had taken over")
        self._number = push.number
        if self.given_up:
            return None
        if push.transfer != self._assembly.transfer:
            self._assembly = Assembly(push.transfer)  # the sender began anew
        self._assembly.add(push.deltas)
        problem = self._problem()
        if problem:
            self.leave()  # no link shall go on with that
            raise ProtocolError(problem)
        if not push.last:
            return None
        assert not self._taken, "one push at a time is on its way to the disk"
        self._busy = True
        self._taken, self._assembly = self._assembly.take(), Assembly()
        return self._taken

    def _problem(self) -> str:
        if self._assembly.cells > self._max_cells:
            return f"a push of more than {self._max_cells} cells; a higher --max-counters lets this node take more"
        if len(self._assembly) > MAX_INCARNATIONS:  # a node has one delta of each at most
            return f"a push of more than {MAX_INCARNATIONS} deltas"
        return ""

    def ack(self, digest: Digest, refused: str = "", *, kept: bool = False) -> Ack:
        """The answer to the newest push.

        Args:
            digest: what is on disk now.
            refused: why the push was not taken; then nothing is buffered of its transfer, which begins anew.
            kept: whether what was given back is on disk.
        """
        assert self._number > self._acknowledged, "each push is acknowledged once"
        assert not (refused and kept), "what was refused is not kept"
        self._busy, self._taken, self._acknowledged = False, [], self._number
        if refused:
            self._assembly, self.given_up = Assembly(), False
        return Ack(self._number, self.news(digest), refused, kept)

    def news(self, digest: Digest) -> Digest:
        """Which versions changed since the peer was told last."""
        told = self._told.get
        news = {who: version for who, version in digest.items() if told(who) != version}
        assert all(version > told(who, 0) for who, version in news.items()), "what a peer was told is never taken back"
        self._told.update(news)
        return news

    def newer_membership(self, own: Membership) -> Membership | None:
        """This node's membership, if the peer may not know it yet."""
        if self.membership.merge(own) == self.membership:
            return None
        self.membership = own
        return own
