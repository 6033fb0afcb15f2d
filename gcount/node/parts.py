"""The parts of a node that has recovered, and how they are put together."""

from collections.abc import Callable
from dataclasses import dataclass

from gcount.cluster.config import Asker, Config
from gcount.cluster.consistent_reads import ConsistentReads
from gcount.cluster.context import Context
from gcount.cluster.forks import Forks
from gcount.cluster.heard_versions import HeardVersions
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.links.acceptor import Acceptor
from gcount.cluster.links.dial_loops import DialLoops
from gcount.cluster.links.dialled_link import DialledLinks
from gcount.cluster.links.handshake import Handshake, Knowledge
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Transport
from gcount.cluster.members import Members
from gcount.cluster.membership_updates import MembershipUpdates
from gcount.cluster.minting import Minting
from gcount.core.state.batch import Batch
from gcount.core.state.identity import IncarnationClaim


@dataclass(frozen=True)
class Parts:
    """All of them; see `assemble`.

    Args:
        context: what they share.
        members: who belongs to the cluster.
        forks: incarnations of which two histories showed.
        minting: begins a new incarnation.
        guard: the right to the present one.
        gate: holds increments while counters are read.
        peers: the members that are dialled.
        reads: the consistent reads under way.
        updates: takes in memberships.
        handshake: says hello.
        dial_loops: dial the members.
        acceptor: answers those that dial this node.
        config: as it is posted and shown.
    """

    context: Context
    members: Members
    forks: Forks
    minting: Minting
    guard: IdentityGuard
    gate: HoldGate
    peers: Peers
    reads: ConsistentReads
    updates: MembershipUpdates
    handshake: Handshake
    dial_loops: DialLoops
    acceptor: Acceptor
    config: Config

    def committed(self, batch: Batch) -> None:
        """What a commit sets off: all of it, in this order, in the instant in which the batch becomes visible.

        Nothing is awaited in between, so no request, no link and no read sees the node in the midst of it.
        """
        replica, news = self.context.replica, self.context.news
        assert replica.next_batch == batch.number + 1, "what a commit sets off comes when the batch is visible"
        own = replica.identity.owns
        # 1. What this node counted, and a config, is pushed at once. News of others is relayed later, if they have not
        #    told it themselves by then.
        if batch.membership is not None or any(own(delta.incarnation) for delta in batch.deltas):
            self.peers.wake()
        # 2. Under a new identity all links say hello anew. What spoke against the old incarnation is void before
        #    anything below looks at it.
        if batch.identity is not None:
            self.guard.minted()
            self.hang_up()
        # 3. Another membership decides whose claims and confirmations count, and what a read needs: also a read that
        #    began while the membership was on its way to the disk. The loops that dial wait for the news.
        if batch.membership is not None:
            self.guard.members_changed()
            self.reads.learned(batch.membership)
            news.tell()
        # 4. The disk has room: a membership that came while it was full is staged. When there is none left, members
        #    whose confirmation did not count meanwhile are asked again.
        if not self.updates.adopt_missed() and self.guard.unheard:
            self.guard.unheard = False
            self.hang_up()
        # 5. There may be more behind a gap, or less: the closer of gaps looks again.
        if replica.detached:
            news.tell()
        # 6. Deltas in the batch may have told a second history of an incarnation.
        self.forks.look()

    def hang_up(self) -> None:
        """End all links, of either side: all that know this node have to meet it anew."""
        self.peers.hang_up()
        self.acceptor.hang_up()


def assemble(context: Context, claim: IncarnationClaim, transport: Transport, now_ms: Callable[[], int]) -> Parts:
    """Make the parts, each of those before it.

    Args:
        context: what they share.
        claim: what is known of the right to the incarnation.
        transport: how others are reached.
        now_ms: the wall clock, in ms; only decides between conflicting configs.
    """
    # Who is who
    members = Members(context.replica)
    forks = Forks(context.replica, members)
    minting = Minting(context, claim)
    guard = IdentityGuard(context, claim, members, minting, forks)
    # Reads
    gate = HoldGate(context.replica.options)
    peers = Peers(context, members)
    reads = ConsistentReads(context, members, gate, guard, peers)
    # Links
    updates = MembershipUpdates(context, members, guard, reads.learned)
    knowledge = Knowledge(members, updates, HeardVersions(context.replica, context.pending), guard, minting)
    handshake = Handshake(context, members)
    dialled = DialledLinks(context, knowledge, handshake, peers, transport, linked=reads.linked, replied=reads.replied)
    dial_loops = DialLoops(context, members, updates, peers, transport, dialled.talk)
    acceptor = Acceptor(context, knowledge, gate, handshake, peers)
    config = Config(context, members, updates, peers, Asker(context, guard, handshake, transport), now_ms)
    return Parts(
        context,
        members,
        forks,
        minting,
        guard,
        gate,
        peers,
        reads,
        updates,
        handshake,
        dial_loops,
        acceptor,
        config,
    )
