"""The config, as operators post it and as it is shown to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import trio

from gcount.cluster.context import Context
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.links.channel import Channel
from gcount.cluster.links.handshake import Handshake
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Transport
from gcount.cluster.members import Members
from gcount.cluster.membership_updates import MembershipUpdates
from gcount.core.limits import MAX_ASKED
from gcount.core.protocol.messages import Hello
from gcount.core.state.membership import Membership, shared_nodes
from gcount.errors import LinkError, LinkRefused, leaves

SELF_WAIT = 1.0  # seconds in which a node finds out which entry of a new config it is
ASK_WITHIN = 1.0  # seconds in which members can answer which config they know, before another one is posted


class Asker:
    """Asks nodes for their id and for the config that they know.

    Args:
        context: what the parts of the node share.
        guard: gets the hellos, as they say what other nodes know of this node's incarnation.
        handshake: says hello.
        transport: connects to other nodes.
    """

    def __init__(self, context: Context, guard: IdentityGuard, handshake: Handshake, transport: Transport) -> None:
        self._link_bytes = context.metrics.link_bytes
        self._guard = guard
        self._handshake = handshake
        self._transport = transport
        self._limiter = trio.CapacityLimiter(MAX_ASKED)

    async def ask(self, addresses: Iterable[str]) -> tuple[dict[str, Hello | None], int]:
        """Ask the nodes at some addresses. Those that do not answer in time are left out.

        Args:
            addresses: the addresses, the most important ones first.

        Returns:
            By address the hello of the node there, or None where it is this node itself; and the newest version of a
            config that any node has sent with a refusal, as it takes this node for a copy of a member.
        """
        answers: dict[str, Hello | None] = {}
        versions = [0]
        with trio.move_on_after(ASK_WITHIN):
            async with trio.open_nursery() as nursery:
                for address in dict.fromkeys(addresses):
                    await self._limiter.acquire_on_behalf_of(token := object())
                    nursery.start_soon(self._ask, address, answers, versions, token)
        return answers, max(versions)

    async def _ask(self, address: str, answers: dict[str, Hello | None], versions: list[int], token: object) -> None:
        try:
            if await self._transport.is_self(address):
                answers[address] = None
                return
            async with self._transport.connect(address) as link:
                _, answer = await self._handshake.say(Channel(link, self._link_bytes, "config"))
                answers[address] = answer
                if answer is not None:
                    self._guard.said_hello(answer, address, member=True)
        except* LinkError as group:
            versions += [error.config for error in leaves(group) if isinstance(error, LinkRefused)]
        finally:
            self._limiter.release_on_behalf_of(token)


class Config:
    """The config of this node, as it is posted and shown.

    Args:
        context: what the parts of the node share.
        members: the members of the cluster.
        updates: takes new memberships.
        peers: the links that this node dialled.
        asker: asks the members.
        now_ms: the wall clock, in ms since 1970. It decides between this config and one that no node reported in time.
    """

    def __init__(
        self,
        context: Context,
        members: Members,
        updates: MembershipUpdates,
        peers: Peers,
        asker: Asker,
        now_ms: Callable[[], int],
    ) -> None:
        self._context = context
        self._replica = context.replica
        self._members = members
        self._updates = updates
        self._peers = peers
        self._asker = asker
        self._now_ms = now_ms

    async def post(self, actors: list[str]) -> dict[str, object]:
        """Put a list of members in force, durably, and wait a moment to find out which entry is this node.

        An operator who posts a list means it to be the newest one, whatever the clocks say. So this node first asks the
        members in the list and those in force which config they know, and makes the new one newer than all of them.

        Args:
            actors: normalised addresses.

        Returns:
            The same as `describe`.

        Raises:
            BadRequest, DiskFull: nothing was changed.
        """
        answers, version = await self._asker.ask([*actors, *self._replica.membership.actors])
        known = self._replica.membership
        for answer in answers.values():
            known = known.merge(answer.membership if answer else known)
        if version > known.version:
            known = Membership(version)  # a refusal says only the version, not the members
        posted = known.post(actors, self._now_ms())
        # Again if a newer one, which was on its way to the disk and so kept this one from being staged, was dropped.
        while self._replica.membership.merge(posted) != self._replica.membership:
            await self._context.committer.adopt(posted).wait()
        for address, answer in answers.items():
            if answer is None and address in self._replica.membership.actors:
                self._updates.found_self(address)
        own = self._replica.identity.node
        nodes = {address: answer.node if answer else own for address, answer in answers.items()}
        await self._find_self()
        return self.describe(nodes)

    async def _find_self(self) -> None:
        stopping = self._context.stopping
        with stopping.ends(trio.current_time() + SELF_WAIT):
            while self._members.self_address is None and self._peers.any_untried and not stopping.is_set:
                await self._context.news.wait()

    def describe(self, nodes: Mapping[str, bytes] | None = None) -> dict[str, object]:
        """The membership in force, ready for JSON.

        It has the keys `actors`, `version`, and `self`, which is the entry of this node. If several entries lead to one
        node, `same_node` has a list of such entries for each of these nodes.

        Args:
            nodes: as for `entries_of_one_node`.
        """
        membership = self._replica.membership
        shared = entries_of_one_node(membership, self._peers, nodes)
        document = {
            "actors": list(membership.actors),
            "version": membership.version,
            "self": self._members.self_address,
        }
        return {**document, "same_node": shared} if shared else document


def entries_of_one_node(
    membership: Membership, peers: Peers, nodes: Mapping[str, bytes] | None = None
) -> list[list[str]]:
    """The entries of the membership in force that lead to one node, although each should be a different node.

    Args:
        membership: the membership in force.
        peers: the links that this node dialled, from which it knows the ids of nodes.
        nodes: further ids of nodes by address.
    """
    return shared_nodes(membership.actors, {**(nodes or {}), **peers.nodes()})
