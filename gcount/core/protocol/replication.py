"""Replication over a link: a state machine for each end, which decide what to push and what to do with a push.

Only the end that dialled pushes state, and at most one push is unacknowledged. Nothing is queued: what a slow peer
lacks is computed from the state when the peer can take it, so that a link costs O(counters), never O(history).

    DeltaSender (dialled)                     DeltaReceiver (accepted)
    idle --next_push--> waiting               collecting --last chunk--> the whole deltas
    waiting --acked--> idle                   (the node joins and syncs them, then acknowledges)
    waiting --acked, refused--> idle, and quiet for a second

All chunks up to a last one are a *transfer*. When the link is lost before the last chunk, both ends keep their part of
the transfer. The next link between the same two processes continues it where the accepting end says. In any doubt the
sender begins anew, from the digest that the peer says it has on disk.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from gcount.core.format.chunks import Assembly, pack
from gcount.core.limits import MAX_INCARNATIONS
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.messages import Ack, Push
from gcount.core.protocol.transfer import Owed, Transfer, Untaken, settlers_lacking
from gcount.core.state.batch import needs_of
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.errors import ProtocolError

URGENT_FOR = 1.0  # seconds in which pushes are urgent after a client waited
REFUSED_PAUSE = 1.0  # seconds before a peer that refused a push, as its disk is full, gets another one


class DeltaSender:
    """The end that dialled: decides what the peer needs next.

    Args:
        digest: the versions that the peer has on disk, from its hello.
        now: the current time, in seconds.
        draw: returns an id for a transfer; 0 when other links can't continue it.
        transfer: the suspended transfer with which to begin, if there is one.
        detached: this node's detached deltas of the peer's former incarnations, which are given back.
        options: sizes of pushes, and pauses between them.

    Attributes:
        peer: the versions that the peer has on disk, as far as it has said.
        paced_until: when the next transfer may begin, in seconds. Under load each transfer so carries what has
            accumulated.
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
        self._gave_back = False  # whether the transfer before this one gave something back
        self._waiting = False  # for an acknowledgement
        self._untaken = Untaken()
        self._quiet_until = now
        self.paced_until = now
        self._urgent_until = now
        self._overdue: Digest = {}  # what the peer should have had from others by now; else this node relays it
        self._seen: Digest = {}  # this node's digest at `_seen_at`, which becomes overdue after `relay_after`
        self._seen_at = now

    def hasten(self, now: float) -> None:
        """Send pushes without delay for the next second, as a client waits until the peer has what it lacks.

        A client that waited once will probably wait again, and then its push is on its way already.
        """
        self._urgent_until = now + URGENT_FOR
        self.paced_until = min(self.paced_until, now)

    def next_push(self, counters: Counters, own: Identity, now: float) -> Push | None:
        """The push to send now; None when there is nothing to send yet.

        Args:
            counters: the durable state. What it holds may leave the node, as it is on disk.
            own: this node's identity. Its changes are pushed at once, those of other nodes when they are overdue.
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
        last, chunk = self._transfer.next(self._draw)
        self._number += 1
        self._waiting = True
        needs = self._transfer.needs if last else {}
        return Push(self._number, last, chunk, now < self._urgent_until, self._transfer.id, needs)

    def acked(self, ack: Ack, now: float) -> None:
        """Take the peer's answer to the push under way.

        Raises:
            ProtocolError: no push is under way, or the answer is to another one.
        """
        transfer = self._transfer
        if not self._waiting or ack.number != self._number or transfer is None:
            raise ProtocolError(f"push {ack.number} was acknowledged, but {self._number} is the newest one")
        self._waiting = False
        self.learned(ack.digest)
        # A refused transfer is not continued: the peer has dropped its chunks. The next one is cut from the state anew.
        if ack.refused:
            self._transfer = None
            self._quiet_until = now + REFUSED_PAUSE
        elif transfer.acked():
            self._transfer = None
            if transfer.given_back is not None:
                self._owed.answered(transfer.given_back, now, kept=ack.kept)
            for incarnation, upto in transfer.promised.items():
                self._untaken.note(incarnation, now, taken=self.peer.get(incarnation, 0) >= upto)

    def offer_again(self) -> None:
        """Offer again at once what the peer did not take, as something changed that may make it take it now.

        This node became a member, for example, or the peer has seen its hello.
        """
        self._owed.offer_again()
        self._untaken.offer_again()

    def interrupted(self) -> Transfer | None:
        """The suspended transfer that is left when the link is lost; None when another link can't continue it."""
        transfer, self._transfer = self._transfer, None
        return transfer if transfer is not None and transfer.id else None

    @property
    def owes(self) -> bool:
        """Whether detached deltas of the peer's former incarnations may not be on its disk yet."""
        return bool(self._owed)

    def _next_transfer(self, counters: Counters, own: Identity, now: float) -> Transfer | None:
        """The next transfer, if anything is to be sent.

        Detached deltas are given back one at a time, in turn with other pushes, so that neither waits for all of the
        other.
        """
        delta = self._owed.next(now)
        if self._gave_back or delta is None:
            promised, pieces = self._lacking(counters, own, now)
            self._gave_back = False
            if promised:  # what the settlements cover was left out in this very instant, not chunk by chunk
                return Transfer(promised, self._chunks(pieces), needs=counters.settlements.needs())
        if delta is None:
            return None
        self._gave_back = True
        needs = needs_of(counters, [delta])  # this node knew them when it detached the delta
        return Transfer({}, self._chunks([delta]), delta, needs.versions if needs else None)

    def _chunks(self, deltas: Iterable[Delta]) -> Iterator[list[Delta]]:
        return pack(deltas, self._options.push_bytes, self._options.chunk_deltas)

    def learned(self, digest: Digest) -> None:
        """Take versions that the peer says it has on disk.

        Raises:
            ProtocolError: with them the peer claims more incarnations than there can be.
        """
        self.peer.update(digest)
        if len(self.peer) > MAX_INCARNATIONS:
            raise ProtocolError(f"the other end claims to know more than {MAX_INCARNATIONS} incarnations")

    def lag(self, counters: Counters) -> int:
        """How many versions, of all incarnations, the peer has not acknowledged."""
        known = self.peer.get
        return sum(max(0, version - known(incarnation, 0)) for incarnation, version in counters.digest().items())

    def _lacking(self, counters: Counters, own: Identity, now: float) -> tuple[Digest, Iterator[Delta]]:
        """What the peer lacks and is to get now.

        Returns:
            The versions that the peer has afterwards, and the pieces of the deltas, each made when it is asked for.
        """
        digest = counters.digest()
        # What this node knew at the last look, and the peer lacks still, its owner has had `relay_after` to push. Two
        # looks are enough to know that, and cost a digest each instead of a time for every version.
        if now - self._seen_at >= self._options.relay_after:
            self._overdue, self._seen, self._seen_at = self._seen, digest, now
        promised: Digest = {}
        found: list[Iterator[Delta]] = []
        cells_left = self._options.push_cells
        for incarnation, version in digest.items():
            if cells_left <= 0:
                break  # the rest goes with the next transfer: each has to fit into what the peer buffers
            has = self.peer.get(incarnation, 0)
            if self._untaken.waits(incarnation, now):
                continue
            if has < version and (own.owns(incarnation) or has < self._overdue.get(incarnation, 0)):
                most, pieces = counters.newer(incarnation, has)
                promised[incarnation] = version
                found.append(pieces)
                cells_left -= most
        if promised and counters.settlements:
            # A peer that lacks a settlement takes nothing without it. So the same transfer brings it, whatever node has
            # settled, and however much that is.
            for settler in settlers_lacking(counters.settlements.needs(), self.peer):
                if settler not in promised:
                    promised[settler] = digest[settler]
                    found.append(counters.newer(settler, self.peer.get(settler, 0))[1])
        return promised, chain.from_iterable(found)


class DeltaReceiver:
    """The end that accepted: puts chunks together, and remembers which versions the peer was told.

    Args:
        max_cells: how many cells of an unfinished transfer may be buffered.
        digest: the versions that the peer was told in the hello.
        membership: the newest membership that the peer is known to know.
        assembly: what another link left of a transfer, which the peer either continues or begins anew.

    Attributes:
        given_up: whether the transfer under way was dropped, so that its next chunk is to be refused.
    """

    def __init__(
        self, max_cells: int, digest: Digest, membership: Membership, assembly: Assembly | None = None
    ) -> None:
        self.membership = membership
        self._max_cells = max_cells
        self._reported = dict(digest)  # the versions that the peer was told last
        self._assembly = Assembly() if assembly is None else assembly
        self._taken: list[Delta] = []  # whole, but not acknowledged yet
        self._number = 0
        self._acknowledged = 0  # the newest push that was
        self._busy = False  # a whole transfer is not acknowledged yet
        self._over = False  # another link took over
        self.given_up = False

    @property
    def buffered(self) -> int:
        """How many cells of an unfinished transfer are buffered."""
        return self._assembly.cells

    @property
    def transfer(self) -> int:
        """The id of the transfer under way that another link could continue; 0 when there is none."""
        return self._assembly.transfer

    def deltas(self) -> Iterator[Delta]:
        """All that came in transfers that are not acknowledged to the last chunk."""
        return chain(self._assembly, self._taken)

    def leave(self) -> Assembly | None:
        """Take nothing more on this link.

        Returns:
            What came of a transfer that another link can continue; None when there is none.
        """
        left, self._assembly, self._over = self._assembly, Assembly(), True
        return left if left.transfer and left.chunks else None

    def give_up(self) -> None:
        """Drop what came of the transfer under way. The sender begins anew when its next chunk is refused."""
        self._assembly, self.given_up = Assembly(), True

    def pushed(self, push: Push) -> list[Delta] | None:
        """Take a push.

        Returns:
            The whole deltas if this was the last chunk: acknowledge it when they are on disk. Else None: acknowledge
            it at once, or refuse it if the transfer was given up.

        Raises:
            ProtocolError: a push is under way already, a number is skipped, another link took over, or more is
                buffered than allowed.
        """
        if self._busy or push.number != self._number + 1:
            raise ProtocolError(f"push {push.number} arrived while push {self._number} was the newest one")
        if self._over:  # the other link has the first chunks; the rest must never be taken for the whole
            raise ProtocolError(f"push {push.number} arrived after another link had taken over")
        self._number = push.number
        if self.given_up:
            return None
        if push.transfer != self._assembly.transfer:  # the sender began anew: its former chunks do not count
            self._assembly = Assembly(push.transfer)
        self._assembly.add(push.deltas)
        problem = self._problem()
        if problem:
            self.leave()  # so that no other link continues this transfer
            raise ProtocolError(problem)
        if not push.last:
            return None
        assert not self._taken, "one push at a time waits for the disk"
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
            digest: the versions on disk now.
            refused: why the push was not taken; empty when it was. What came of its transfer is dropped then, and the
                transfer begins anew.
            kept: whether what was given back is on disk.
        """
        assert self._number > self._acknowledged, "each push is acknowledged once"
        assert not (refused and kept), "what was refused is not kept"
        self._busy, self._taken, self._acknowledged = False, [], self._number
        if refused:
            self._assembly, self.given_up = Assembly(), False
        return Ack(self._number, self.news(digest), refused, kept)

    def news(self, digest: Digest) -> Digest:
        """The versions that changed since the last message to the peer; from now on they count as reported."""
        reported = self._reported
        news = {incarnation: version for incarnation, version in digest.items() if reported.get(incarnation) != version}
        self._check_news(news)
        reported.update(news)
        return news

    def _check_news(self, news: Digest) -> None:
        """Assert that no version is lower than one that was reported before."""
        known = self._reported.get
        grown = all(version > known(incarnation, 0) for incarnation, version in news.items())
        assert grown, "what was reported is never taken back"

    def newer_membership(self, own: Membership) -> Membership | None:
        """This node's membership, if the peer may not know it yet; from now on it counts as known."""
        if self.membership.merge(own) == self.membership:
            return None
        self.membership = own
        return own
