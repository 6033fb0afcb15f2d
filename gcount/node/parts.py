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
from gcount.cluster.settling import Settling
from gcount.core.state.batch import Batch
from gcount.core.state.identity import IncarnationClaim
from gcount.node.increments import Increments
from gcount.node.reads import Reads
from gcount.storage.checkpoints import Checkpoints


@dataclass(frozen=True)
class Parts:
    """All parts; see `assemble`.

    Args:
        context: what the parts share.
        members: the members of the cluster.
        forks: incarnations with two histories.
        minting: begins new incarnations.
        guard: guards the right to the present incarnation.
        gate: lets increments wait while their counters are read.
        peers: the members that this node dials.
        reads: the consistent reads under way.
        updates: takes new memberships.
        handshake: says hello.
        dial_loops: dials the members.
        acceptor: answers the nodes that dial this one.
        config: the config, as it is posted and shown.
        settling: settles increments with ids.
        increments: the one way in for increments.
        client_reads: the consistent reads that clients ask for.
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
    settling: Settling
    increments: Increments
    client_reads: Reads

    def start(self, nursery: trio.Nursery, checkpoints: Checkpoints, linger: float) -> None:
        """Start all tasks of the node that do not come from requests.

        Args:
            nursery: runs the tasks. An error in any of them ends the node.
            checkpoints: makes checkpoints of the replica.
            linger: how long removed members are still dialled, in seconds.
        """
        context = self.context
        nursery.start_soon(context.committer.run, self.committed)
        nursery.start_soon(checkpoints.run, context.replica)
        nursery.start_soon(self.dial_loops.run, linger)
        nursery.start_soon(report_config, context, self.members, self.peers)
        nursery.start_soon(close_gaps, context, self.members, self.peers)
        nursery.start_soon(self.settling.run)
        nursery.start_soon(self.acceptor.run)

    def committed(self, batch: Batch) -> None:
        """Do all that follows from a commit, in this order, at the instant at which the batch becomes visible.

        Nothing is awaited in between, so that no request, no link and no read sees the node between two of the steps.
        """
        replica, news = self.context.replica, self.context.news
        assert replica.next_batch == batch.number + 1, "what a commit sets off comes when the batch is visible"
        own = replica.identity.owns
        # 1. This node's own increments, and a config, are pushed at once. Increments of other nodes are relayed later,
        #    if those nodes have not pushed them by then.
        if batch.membership is not None or any(own(delta.incarnation) for delta in batch.deltas):
            self.peers.wake()
        # 2. With a new identity all links say hello anew. The evidence against the old incarnation is dropped before
        #    any step below uses it.
        if batch.identity is not None:
            self.guard.minted()
            self.hang_up()
        # 3. Another membership decides whose claims and confirmations count, and which members a read has to ask. That
        #    includes reads that began while the membership was being written. The dial loops wait for the news.
        if batch.membership is not None:
            self.guard.members_changed()
            self.reads.learned(batch.membership)
            news.notify()
        # 4. The disk has space. So a membership that came while it was full is staged. If there is none, members whose
        #    confirmations were ignored meanwhile are asked again.
        if not self.updates.adopt_missed() and self.guard.unheard:
            self.guard.unheard = False
            self.hang_up()
        # 5. Detached deltas may have changed, so the gap closer looks at them again.
        if replica.detached:
            news.notify()
        # 6. Deltas in the batch may have shown a second history of an incarnation.
        self.forks.look()
        # 7. Consistent reads may have waited for the ids in the batch.
        self.reads.committed()

    def hang_up(self) -> None:
        """End all links of both directions, so that hellos are exchanged anew."""
        self.peers.hang_up()
        self.acceptor.hang_up()


def assemble(context: Context, transport: Transport, now_ms: Callable[[], int], *, fresh: bool) -> Parts:
    """Make all parts. Each one gets only parts that were made before it, so that nothing is set afterwards.

    The node serves from now on.

    Args:
        context: what the parts share.
        transport: connects to other nodes.
        now_ms: the wall clock, in ms since 1970. It only decides between conflicting configs.
        fresh: whether this start began the incarnation, so that no other node can know anything of it.
    """
    serving_since = trio.current_time()
    claim = IncarnationClaim(fresh=fresh)
    # Identity
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
    settling = Settling(context, members, guard)
    dialled = DialledLinks(
        context,
        knowledge,
        handshake,
        peers,
        transport,
        linked=reads.linked,
        replied=reads.replied,
        told=settling.told,
    )
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
        settling,
        Increments(context, guard, minting, gate, serving_since),
        Reads(context, reads, serving_since),
    )
