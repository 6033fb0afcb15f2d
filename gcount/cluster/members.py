"""Who belongs to the cluster: which entry of the membership is this node, and which node answers at each of the others.

A member is a node, not an address. Addresses move and names are changed, so what is known of an entry is found out anew
all the time, and holds only for a moment: an entry is this node for as long as that is proven again and again, by the
kernel (see `Transport.is_self`) or by a hello of this very process that came in at its own door.
"""

import trio

from gcount.core.protocol.messages import Hello
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica

SELF_VALID = 2.0  # seconds for which a proof that an entry is this node counts; it is proven anew each half second


class Members:
    """What this node knows of its cluster.

    Args:
        replica: holds the membership that is in force.

    Attributes:
        hellos: the last one from each member's address.
        learned: the newest membership that any peer told, maybe not yet on disk.
    """

    def __init__(self, replica: Replica) -> None:
        self.hellos: dict[str, Hello] = {}
        self.learned = Membership()
        self._replica = replica
        self._proven: dict[str, float] = {}  # entry -> when it was proven last that it is this node

    @property
    def here(self) -> list[str]:
        """The entries of the membership that are this node; more than one is a mistake in the config."""
        if not self._proven:
            return []
        oldest = trio.current_time() - SELF_VALID
        return [entry for entry in self._replica.membership.actors if self._proven.get(entry, oldest - 1) >= oldest]

    @property
    def self_address(self) -> str | None:
        """This node's own entry in the membership."""
        return next(iter(self.here), None)

    @property
    def is_outside(self) -> bool:
        """Whether no entry of the membership is this node: as when none was proven, or each was disproved since."""
        return not any(entry in self._proven for entry in self._replica.membership.actors)

    @property
    def others(self) -> list[str]:
        """All entries but this node's own: each of them has to be another node."""
        own = self.self_address
        return [address for address in self._replica.membership.actors if address != own]

    @property
    def readable(self) -> list[tuple[str, ...]]:
        """The memberships that a consistent read needs: the one in force, and one that is not yet on disk."""
        now, newest = self._replica.membership, self._replica.membership.merge(self.learned)
        return [actors for actors in dict.fromkeys((now.actors, newest.actors)) if actors]

    def proves(self, entry: str) -> bool:
        """It was proven that an entry is this node; returns whether that is news."""
        news = self._proven.get(entry, -SELF_VALID) < trio.current_time() - SELF_VALID
        self._proven[entry] = trio.current_time()
        return news

    def disproves(self, entry: str) -> bool:
        """An entry is not this node, or not any more; returns whether that is news."""
        return self._proven.pop(entry, None) is not None

    def forget(self, entry: str) -> None:
        """Nobody dials that address any more."""
        self.hellos.pop(entry, None)
        self._proven.pop(entry, None)

    def entries_of(self, hello: Hello) -> list[str]:
        """Where the same start of a node was met under another id: it has taken a new one since."""
        return [
            entry for entry, last in self.hellos.items() if last.start_id == hello.start_id and last.node != hello.node
        ]

    def is_member(self, node: bytes) -> bool:
        """Whether a node answers at some member's address."""
        members = (self.hellos.get(address) for address in self.others)
        return any(hello.node == node for hello in members if hello is not None)

    def is_at_home(self, start_id: bytes) -> bool:
        """Whether that start of a node answers at an address that this node dials."""
        return any(hello.start_id == start_id for hello in self.hellos.values())

    def is_members(self, incarnation: bytes) -> bool:
        """Whether a member that was met runs, or ran, under an incarnation."""
        return any(incarnation == hello.incarnation or incarnation in hello.retired for hello in self.hellos.values())

    def is_claimed(self, incarnation: bytes, node: bytes) -> bool:
        """Whether an incarnation is this node's, or that of a member that is not `node`."""
        return self._replica.identity.owns(incarnation) or any(
            hello.node != node and (incarnation == hello.incarnation or incarnation in hello.retired)
            for hello in self.hellos.values()
        )
