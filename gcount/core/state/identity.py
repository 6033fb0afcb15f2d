"""Who a node is, and whether a disk may go on under the incarnation that it remembers.

A disk can forget: lost, restored from an older copy, copied. If its node went on under the same incarnation, its next
increments would vanish under what peers know already (riak_kv 679, 1094, 1643; scylladb 2169). So after each start a
node asks: does any member know more of my incarnation than I hold? Only when all have answered no, it goes on under it;
else it mints a new one before its next increment.
"""

from collections.abc import Iterable

import msgspec

from gcount.core.limits import ID_BYTES


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Who writes this log.

    Args:
        node: made with the data directory.
        incarnation: whose cells this node raises now.
        retired: the incarnations that it raised before, the oldest first.
    """

    node: bytes
    incarnation: bytes
    retired: tuple[bytes, ...] = ()

    def valid(self) -> bool:
        """Whether one that was read is well-formed."""
        return all(len(each) == ID_BYTES for each in (self.node, self.incarnation, *self.retired))

    def owns(self, incarnation: bytes) -> bool:
        """Whether this node raises, or ever raised, that incarnation's cells."""
        return incarnation == self.incarnation or incarnation in self.retired

    def reborn(self, incarnation: bytes, node: bytes | None = None) -> "Identity":
        """The same node, or another one, under a new incarnation."""
        assert not self.owns(incarnation), "an incarnation is begun once"
        return Identity(node or self.node, incarnation, (*self.retired, self.incarnation))

    def continues(self, other: "Identity") -> bool:
        """Whether it may follow another one: under the same incarnation, or under a new one, and none is forgotten."""
        retired = other.retired if self.incarnation == other.incarnation else (*other.retired, other.incarnation)
        return self.retired == retired and self.incarnation not in retired

    def renamed(self, node: bytes) -> "Identity":
        """Another node that goes on under the same incarnation."""
        return Identity(node, self.incarnation, self.retired)


class IncarnationClaim:
    """What one start has learned about the right to its incarnation.

    Args:
        fresh: the incarnation was minted by this very start, so nobody can know anything of it.
    """

    def __init__(self, *, fresh: bool) -> None:
        self.settled = fresh
        self._confirmed: dict[str, bytes] = {}  # which node did, at which address
        self._claims: dict[str, str] = {}  # what members know beyond this disk, by address
        self._doubt: str | None = None  # what else speaks against the incarnation

    @property
    def reason(self) -> str | None:
        """Why a new incarnation is due; None when none is."""
        return self._doubt or next(iter(self._claims.values()), None)

    def heard(self, address: str, node: bytes, knows: int, holds: int) -> None:
        """A member told what it knows of this node's incarnation.

        Args:
            address: the member's.
            node: the id of the node that answers there.
            knows: the version that it knows.
            holds: this node's own version.
        """
        if knows > holds:
            text = f"{address} knows {knows} commits of this node's incarnation, its disk holds {holds}"
            self._claims.setdefault(address, text)
        else:
            self._confirmed[address] = node

    def doubt(self, reason: str) -> None:
        """Something else speaks against the incarnation: a new one is due."""
        self._doubt = reason

    def retract(self, members: Iterable[str]) -> None:
        """Claims of others than these members are void: what only a node outside the config knows is not promised."""
        self._claims = {address: text for address, text in self._claims.items() if address in set(members)}

    def forget(self, address: str) -> None:
        """An address belongs to no member any more."""
        self._confirmed.pop(address, None)

    def unconfirmed(self, members: Iterable[str]) -> list[str]:
        """Which of the other members have not confirmed yet, each by a node of its own."""
        lacking, nodes = [], set[bytes]()
        for address in sorted(set(members)):
            node = self._confirmed.get(address)
            if node is None or node in nodes:
                lacking.append(address)
            else:
                nodes.add(node)
        return lacking

    def may_continue(self, members: Iterable[str]) -> bool:
        """Whether an increment may be counted under the incarnation now.

        Args:
            members: the addresses of the other members, by the newest membership known.
        """
        if self.reason is not None:
            return False
        if not self.settled and not self.unconfirmed(members):
            self.settled = True
        return self.settled

    def overdue(self, members: Iterable[str]) -> list[str]:
        """The members for whose confirmation there is no more time: if there are any, a new incarnation is due.

        Args:
            members: the addresses of the other members, by the newest membership known.

        Returns:
            None of them when a new one is due already for another reason.
        """
        members = list(members)
        return [] if self.reason is not None or self.may_continue(members) else self.unconfirmed(members)

    def minted(self) -> None:
        """A new incarnation is durable: nobody can know more of it than this node."""
        self.settled = True
        self._doubt, self._claims = None, {}


class IdentityHistory:
    """What the pieces of a damaged log tell about the node that wrote it, the oldest first."""

    def __init__(self) -> None:
        self.node: bytes | None = None
        self.incarnation: bytes | None = None
        self._raised: dict[bytes, None] = {}  # in the order in which they came up

    def met(self, identity: Identity) -> None:
        """A later piece names the node and its incarnations."""
        self.node, self.incarnation = identity.node, identity.incarnation
        self._raised.update(dict.fromkeys((*identity.retired, identity.incarnation)))

    def reborn(self, incarnation: bytes, node: bytes) -> Identity:
        """Who goes on with what is left of the log.

        Args:
            incarnation: a new one.
            node: a new id, for when the old one was lost.
        """
        return Identity(self.node or node, incarnation, tuple(self._raised))
