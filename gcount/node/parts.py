"""The parts of a node that has recovered, and how they are put together."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from gcount.cluster.config import Asker, Config
from gcount.cluster.consistent_reads import ConsistentReads
from gcount.cluster.context import Context
from gcount.cluster.forks import Forks
from gcount.cluster.gap_closer import close_gaps
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
from gcount.cluster.operator_log import report_config
from gcount.core.state.batch import Batch
from gcount.core.state.identity import IncarnationClaim
from gcount.node.increments import Increments
from gcount.node.reads import Reads
from gcount.storage.checkpoints import Checkpoints


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
        increments: the one way in for increments.
        client_reads: consistent reads as clients ask for them.
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
    increments: Increments
    client_reads: Reads

    def start(self, nursery: trio.Nursery, checkpoints: Checkpoints, linger: float) -> None:
        """Start everything that a node does without being asked.

        Args:
            nursery: runs it; what fails there ends the node.
            checkpoints: made of the replica now and then.
            linger: seconds for which removed members are still dialled.
        """
        context = self.context
        nursery.start_soon(context.committer.run, self.committed)
        nursery.start_soon(checkpoints.run, context.replica)
        nursery.start_soon(self.dial_loops.run, linger)
        nursery.start_soon(report_config, context, self.members, self.peers)
        nursery.start_soon(close_gaps, context, self.members, self.peers)
        nursery.start_soon(self.acceptor.run)

    def committed(self, batch: Batch) -> None:
        """What a commit sets off: all of it, in this order, in the instant in which the batch becomes visible.

        Nothing is awaited in between, so no request, no link and no read sees the node in the midst of it.
        """
        replica, news = self.context.replica, self.context.news
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
            news.notify()
        # 4. The disk has room: a membership that came while it was full is staged. When there is none left, members
        #    whose confirmation did not count meanwhile are asked again.
        if not self.updates.adopt_missed() and self.guard.unheard:
            self.guard.unheard = False
            self.hang_up()
        # 5. There may be more behind a gap, or less: the closer of gaps looks again.
        if replica.detached:
            news.notify()
        # 6. Deltas in the batch may have told a second history of an incarnation.
        self.forks.look()

    def hang_up(self) -> None:
        """End all links, of either side: all that know this node have to meet it anew."""
        self.peers.hang_up()
        self.acceptor.hang_up()


def assemble(context: Context, transport: Transport, now_ms: Callable[[], int], *, fresh: bool) -> Parts:
    """Make the parts, each of those before it; from now on the node serves.

    Args:
        context: what they share.
        transport: how others are reached.
        now_ms: the wall clock, in ms; only decides between conflicting configs.
        fresh: whether this start minted the incarnation, so that no other node can know anything of it.
    """
    serving_since = trio.current_time()
    claim = IncarnationClaim(fresh=fresh)
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
        Increments(context, guard, minting, gate, serving_since),
        Reads(context, reads, serving_since),
    )
