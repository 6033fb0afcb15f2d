"""The config as operators post it, and as it is shown to them."""

from collections.abc import Callable

from gcount.cluster.local import Local
from gcount.cluster.peers import Peers


async def post_config(local: Local, peers: Peers, actors: list[str], now_ms: Callable[[], int]) -> None:
    """Put a list of members in force, durably.

    An operator who posts a list means it to be the newest, whatever clocks say. So the members that it names, and those
    in force, are asked first what they know, and it is made newer than that.

    Args:
        local: this node.
        peers: how members are asked.
        actors: normalised addresses.
        now_ms: the wall clock, in ms; decides against configs that nobody told of in time.

    Raises:
        BadRequest, DiskFull: nothing was changed.
    """
    known = local.replica.membership
    for told in await peers.ask_memberships([*actors, *known.actors]):
        known = known.merge(told)
    posted = known.merge(local.replica.membership).post(actors, now_ms())
    if posted != local.replica.membership:
        await local.committer.adopt(posted).wait()


def describe_config(local: Local, peers: Peers) -> dict[str, object]:
    """The membership in force for JSON: `actors`, `version`, and `self`, the entry that is this node.

    `same_node` is there when entries lead to one node though each has to be another one: lists of such entries.
    """
    membership, shared = local.replica.membership, peers.shared()
    document = {
        "actors": list(membership.actors),
        "version": membership.version,
        "self": local.members.self_address,
    }
    return {**document, "same_node": shared} if shared else document
