"""The dialling side of the links: one loop for each member, for as long as it is a member.

A peer that goes or comes back is logged with one line, however often it is dialled in between.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio

from gcount.cluster.context import Context
from gcount.cluster.links.peer import Peer
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link, Transport
from gcount.cluster.members import Members
from gcount.cluster.membership_updates import MembershipUpdates
from gcount.errors import LinkError, LinkRefused, leaves

SELF_CHECK = 0.5  # seconds between two proofs that an entry is this node
FIND_SELF_WITHIN = 0.1  # seconds that a start waits to find out which entry is this node

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class DialLoops:
    """The dial loops of all members.

    Args:
        context: what the parts of the node share.
        members: the members of the cluster.
        updates: notified of the entries that are this node.
        peers: the members that are dialled.
        transport: connects to them.
        talk: exchanges messages on a new link, until it is over.
    """

    def __init__(
        self,
        context: Context,
        members: Members,
        updates: MembershipUpdates,
        peers: Peers,
        transport: Transport,
        talk: Callable[[Peer, Link], Awaitable[None]],
    ) -> None:
        self._replica = context.replica
        self._random = context.random
        self._news = context.news
        self._members = members
        self._updates = updates
        self._peers = peers
        self._transport = transport
        self._talk = talk

    async def run(self, linger: float) -> None:
        """Dial all members, for ever.

        Args:
            linger: how long a removed member is still dialled, in seconds. It has to learn that it was removed, and
                consistent reads that began before have to ask it.
        """
        await self._find_self()
        async with trio.open_nursery() as nursery:
            while True:
                for address in self._replica.membership.actors:
                    if self._peers.get(address) is None:
                        nursery.start_soon(self._serve_member, self._peers.add(address), linger)
                self._let_go()
                await self._news.wait()

    async def _find_self(self) -> None:
        """Find out which entry is this node, so that hellos can say it. Name servers may hang, so this has a limit."""

        async def look(address: str) -> None:
            if await self._is_self(address):
                self._updates.found_self(address)

        with trio.move_on_after(FIND_SELF_WITHIN):
            async with trio.open_nursery() as nursery:
                for address in self._replica.membership.actors:
                    nursery.start_soon(look, address)

    def _let_go(self) -> None:
        """Stop dialling the oldest removed members if there are too many.

        Otherwise a flood of memberships could make the node dial any number of addresses.
        """
        actors = self._replica.membership.actors
        removed = [peer for peer in self._peers if peer.address not in actors]
        for peer in removed[: max(0, len(removed) - self._replica.options.max_removed)]:
            peer.serving.cancel()

    async def _serve_member(self, peer: Peer, linger: float) -> None:
        with peer.serving:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._dial_forever, peer)
                while True:
                    while peer.address in self._replica.membership.actors:
                        await self._news.wait()
                    with trio.move_on_after(linger) as gone:
                        while peer.address not in self._replica.membership.actors:
                            await self._news.wait()
                    if gone.cancelled_caught:
                        break
                nursery.cancel_scope.cancel()
        self._peers.remove(peer.address)
        self._updates.forget(peer.address)
        self._news.notify()  # the member may have been added again meanwhile; then `run` dials it again

    async def _dial_forever(self, peer: Peer) -> None:
        log = logger.bind(peer=peer.address)
        by_kernel = False
        while True:
            was, by_kernel = by_kernel, await self._is_self(peer.address)
            if was and not by_kernel:
                self._updates.lost_self(peer.address)
            reason, refused = ("", False) if by_kernel else await self._dial(peer)
            if by_kernel or peer.reached_self:
                peer.here()
                self._members.hellos.pop(peer.address, None)
                self._updates.found_self(peer.address)
                await peer.redial.wait(SELF_CHECK)
                continue
            self._updates.lost_self(peer.address)
            if peer.sender is not None:
                log.warning("link down", reason=reason)
            elif peer.reason == "" or (refused and reason != peer.reason):
                log.warning("peer not reached", reason=reason)
            peer.unlinked(reason, trio.current_time())
            self._news.notify()
            await peer.redial.wait(peer.redial.pause(self._random.random()))

    async def _is_self(self, address: str) -> bool:
        return await self._transport.is_self(address) is True

    async def _dial(self, peer: Peer) -> tuple[str, bool]:
        """Dial a member and serve the link until it ends; returns why it ended, and whether one end refused it."""
        errors: list[BaseException] = []
        peer.reached_self = False
        with trio.CancelScope() as peer.scope:
            try:
                async with self._transport.connect(peer.address) as link:
                    await self._talk(peer, link)
            except* LinkError as group:
                errors += leaves(group)
        if not errors:
            return "hung up to say hello anew", False
        return str(errors[0]), isinstance(errors[0], LinkRefused)
