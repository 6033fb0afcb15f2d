"""The members of the cluster: which entry of the membership is this node, and which node answers at each other entry.

A member is a node, not an address. Addresses move and names change, so this has to be found out again and again, and
each finding is valid only for a moment. An entry counts as this node while that is proven repeatedly: by the kernel
(see `Transport.is_self`), or by a hello of this very process that reached its own listener.
"""

import trio

from gcount.core.protocol.messages import Hello
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica

SELF_VALID = 2.0  # seconds for which a proof that an entry is this node is valid; it is renewed every half second


def uses_ids(replica: Replica) -> bool:
    """Whether increments with ids are in use: this node took one, or has some of other nodes."""
    return replica.floor is not None or bool(replica.counters.entries.live or replica.counters.settlements)


class Members:
    """What this node knows of its cluster.

    Args:
        replica: holds the membership that is in force.

    Attributes:
        hellos: the last hello from each member's address.
        learned: the newest membership that any peer has sent; it may not be on disk yet.
    """

    def __init__(self, replica: Replica) -> None:
        self.hellos: dict[str, Hello] = {}
        self.learned = Membership()
        self._replica = replica
        self._proven: dict[str, float] = {}  # by entry: when it was last proven that it is this node, in seconds

    @property
    def here(self) -> list[str]:
        """The entries of the membership that are this node; more than one is a mistake in the config."""
        if not self._proven:
            return []
        oldest = trio.current_time() - SELF_VALID
        return [entry for entry in self._replica.membership.actors if self._proven.get(entry, oldest - 1) >= oldest]

    @property
    def self_address(self) -> str | None:
        """This node's own entry in the membership; None when it knows of none."""
        return next(iter(self.here), None)

    @property
    def is_outside(self) -> bool:
        """Whether no entry of the membership is known to be this node, not even by a proof that is out of date."""
        return not any(entry in self._proven for entry in self._replica.membership.actors)

    @property
    def others(self) -> list[str]:
        """All entries but this node's own. Each of them has to be a different node."""
        own = self.self_address
        return [address for address in self._replica.membership.actors if address != own]

    @property
    def readable(self) -> list[tuple[str, ...]]:
        """The memberships that a consistent read needs: the one in force, and a newer one that is not on disk yet."""
        now, newest = self._replica.membership, self._replica.membership.merge(self.learned)
        return [actors for actors in dict.fromkeys((now.actors, newest.actors)) if actors]

    def proves(self, entry: str) -> bool:
        """Note a proof that an entry is this node; returns whether that was unknown before."""
        news = self._proven.get(entry, -SELF_VALID) < trio.current_time() - SELF_VALID
        self._proven[entry] = trio.current_time()
        return news

    def disproves(self, entry: str) -> bool:
        """Note that an entry is not this node, or not any more; returns whether it counted as this node before."""
        return self._proven.pop(entry, None) is not None

    def forget(self, entry: str) -> None:
        """Forget all about an entry that is not dialled any more."""
        self.hellos.pop(entry, None)
        self._proven.pop(entry, None)

    def entries_of(self, hello: Hello) -> list[str]:
        """The entries at which the same process said hello under another node id, before it took a new one."""
        return [
            entry for entry, last in self.hellos.items() if last.start_id == hello.start_id and last.node != hello.node
        ]

    def why_no_ids(self) -> str:
        """Why this node may take no increments with ids yet; empty when it may.

        A member that does not understand them would take them for nothing, and say that it has them.
        """
        if self._replica.floor is not None:
            return ""  # all members understood them once, and those that do not are refused since
        last = {address: self.hellos.get(address) for address in self.others}
        unknown = [address for address, hello in last.items() if hello is None or not hello.knows_ids]
        if not unknown:
            return ""
        advice = "upgrade them, or start those that are away"
        return f"some members are not known to understand ids of increments ({advice}): {', '.join(unknown)}"

    def is_member(self, node: bytes) -> bool:
        """Whether a node is the one that answered at a member's address."""
        members = (self.hellos.get(address) for address in self.others)
        return any(hello.node == node for hello in members if hello is not None)

    def is_dialled(self, start_id: bytes) -> bool:
        """Whether a process, by the id of its start, is the one that answered at an address that this node dials."""
        return any(hello.start_id == start_id for hello in self.hellos.values())

    def is_of_member(self, incarnation: bytes) -> bool:
        """Whether a member has said in a hello that an incarnation is its present one or a retired one."""
        return any(incarnation == hello.incarnation or incarnation in hello.retired for hello in self.hellos.values())

    def is_claimed(self, incarnation: bytes, node: bytes) -> bool:
        """Whether an incarnation belongs to this node, or to a member other than `node`."""
        return self._replica.identity.owns(incarnation) or any(
            hello.node != node and (incarnation == hello.incarnation or incarnation in hello.retired)
            for hello in self.hellos.values()
        )
