"""The config as operators post it, and as it is shown to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import trio

from gcount.cluster.links.channel import Channel
from gcount.cluster.links.handshake import say_hello
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Transport
from gcount.cluster.local import Local
from gcount.core.limits import MAX_ASKED
from gcount.core.protocol.messages import Hello
from gcount.core.state.membership import Membership, shared_nodes
from gcount.errors import LinkError, LinkRefused, leaves

ASK_WITHIN = 1.0  # seconds in which members tell which config they know, before another one is posted


class Asker:
    """Asks nodes who they are and which config they know.

    Args:
        local: this node.
        transport: how they are reached.
    """

    def __init__(self, local: Local, transport: Transport) -> None:
        self._local = local
        self._transport = transport
        self._limiter = trio.CapacityLimiter(MAX_ASKED)

    async def ask(self, addresses: Iterable[str]) -> tuple[dict[str, Hello | None], int]:
        """Ask the nodes at some addresses, as far as they answer in time.

        Args:
            addresses: where to ask, the most important ones first.

        Returns:
            Their hellos, None where it is this node itself; and the newest version of a config that those told which
            refuse to talk, as they take this node for a copy.
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
        local = self._local
        try:
            if await self._transport.is_self(address):
                answers[address] = None
                return
            async with self._transport.connect(address) as link:
                _, answer = await say_hello(local, Channel(link, local.metrics.link_bytes, "config"))
                answers[address] = answer
                if answer is not None:
                    local.guard.met(answer, address, member=True)
        except* LinkError as group:
            versions += [error.config for error in leaves(group) if isinstance(error, LinkRefused)]
        finally:
            self._limiter.release_on_behalf_of(token)


async def post_config(local: Local, asker: Asker, actors: list[str], now_ms: Callable[[], int]) -> dict[str, bytes]:
    """Put a list of members in force, durably.

    An operator who posts a list means it to be the newest, whatever clocks say. So the members that it names, and those
    in force, are asked first what they know, and it is made newer than that.

    Args:
        local: this node.
        asker: asks the members.
        actors: normalised addresses.
        now_ms: the wall clock, in ms; decides against configs that nobody told of in time.

    Returns:
        The ids of the nodes that answered, by address.

    Raises:
        BadRequest, DiskFull: nothing was changed.
    """
    answers, version = await asker.ask([*actors, *local.replica.membership.actors])
    known = local.replica.membership
    for answer in answers.values():
        known = known.merge(answer.membership if answer else known)
    if version > known.version:
        known = Membership(version)  # whoever its members are
    posted = known.post(actors, now_ms())
    if posted != local.replica.membership:
        await local.committer.adopt(posted).wait()
    for address, answer in answers.items():
        if answer is None and address in local.replica.membership.actors:
            local.found_self(address)
    own = local.replica.identity.node
    return {address: answer.node if answer else own for address, answer in answers.items()}


def entries_of_one_node(local: Local, peers: Peers, nodes: Mapping[str, bytes] | None = None) -> list[list[str]]:
    """The entries of the membership in force that lead to one node, though each has to be another one.

    Args:
        local: this node.
        peers: the links that it dialled.
        nodes: what else is known of who is at which address.
    """
    return shared_nodes(local.replica.membership.actors, {**(nodes or {}), **peers.nodes()})


def describe_config(local: Local, peers: Peers, nodes: Mapping[str, bytes] | None = None) -> dict[str, object]:
    """The membership in force for JSON: `actors`, `version`, and `self`, the entry that is this node.

    `same_node` is there when entries lead to one node: lists of such entries. Args: as `entries_of_one_node`.
    """
    membership, shared = local.replica.membership, entries_of_one_node(local, peers, nodes)
    document = {
        "actors": list(membership.actors),
        "version": membership.version,
        "self": local.members.self_address,
    }
    return {**document, "same_node": shared} if shared else document
