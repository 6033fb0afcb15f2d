"""The identity of a node, and its right to go on under the incarnation that its disk remembers.

A disk can forget: it was replaced, restored from an older copy, or copied to another machine. If its node went on under
the same incarnation, its next increments would vanish under the maximum of what peers know already (riak_kv 679, 1094,
1643; scylladb 2169). So after each start a node asks all members whether they know more of its incarnation than its
disk holds. It goes on under the incarnation only when all of them have answered no. Otherwise it begins a new
incarnation before its next increment.
"""

from collections.abc import Iterable

import msgspec

from gcount.core.limits import ID_BYTES


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """The node that writes a log.

    Args:
        node: the node id, drawn when the data directory is made.
        incarnation: the incarnation under which the node counts now.
        retired: the incarnations under which it counted before, the oldest first. After a repair that found none of
            them, one id stands for all.
    """

    node: bytes
    incarnation: bytes
    retired: tuple[bytes, ...] = ()

    def valid(self) -> bool:
        """Whether all ids have the right length, for an identity that was read from a file."""
        return all(len(each) == ID_BYTES for each in (self.node, self.incarnation, *self.retired))

    def owns(self, incarnation: bytes) -> bool:
        """Whether this is the node's present incarnation or a retired one."""
        return incarnation == self.incarnation or incarnation in self.retired

    def reborn(self, incarnation: bytes, node: bytes | None = None) -> "Identity":
        """The same node, or another one, under a new incarnation."""
        assert not self.owns(incarnation), "an incarnation is begun once"
        return Identity(node or self.node, incarnation, (*self.retired, self.incarnation))

    def continues(self, other: "Identity") -> bool:
        """Whether this identity may follow another one: it has the same or a new incarnation, and forgets none."""
        retired = other.retired if self.incarnation == other.incarnation else (*other.retired, other.incarnation)
        return self.retired == retired and self.incarnation not in retired

    def renamed(self, node: bytes) -> "Identity":
        """Another node that goes on under the same incarnation."""
        return Identity(node, self.incarnation, self.retired)


class IncarnationClaim:
    """The evidence that one start has gathered about the right to its incarnation.

    Args:
        fresh: whether this very start began the incarnation, so that no other node can know anything of it.

    Attributes:
        settled: whether the node may count under the incarnation; it stays True once it is.
    """

    def __init__(self, *, fresh: bool) -> None:
        self.settled = fresh
        self._confirmed: dict[str, bytes] = {}  # the id of the node that confirmed, by its address
        self._claims: dict[str, str] = {}  # by address, in words: a member knows more than this disk holds
        self._doubt: str | None = None  # any other evidence against the incarnation

    @property
    def reason(self) -> str | None:
        """Why the node has to begin a new incarnation; None when it does not have to."""
        return self._doubt or next(iter(self._claims.values()), None)

    def heard(self, address: str, node: bytes, knows: int, holds: int) -> None:
        """Take a member's answer: it confirms the incarnation, or it claims to know more.

        Args:
            address: the member's address.
            node: the id of the node that answers there.
            knows: the version of this node's incarnation that the member knows.
            holds: the version on this node's disk.
        """
        if knows > holds:
            text = f"{address} knows {knows} commits of this node's incarnation, its disk holds {holds}"
            self._claims.setdefault(address, text)
        else:
            self._confirmed[address] = node

    def doubt(self, reason: str) -> None:
        """Note any other evidence against the incarnation: the node has to begin a new one."""
        self._doubt = reason

    def retract(self, members: Iterable[str]) -> None:
        """Drop the claims of all nodes but these members: nothing is promised about what only other nodes know."""
        self._claims = {address: text for address, text in self._claims.items() if address in set(members)}

    def forget(self, address: str) -> None:
        """Drop the confirmation from an address that belongs to no member any more."""
        self._confirmed.pop(address, None)

    def unconfirmed(self, members: Iterable[str]) -> list[str]:
        """The other members that have not confirmed yet. Each of them has to be confirmed by a different node."""
        lacking, nodes = [], set[bytes]()
        for address in sorted(set(members)):
            node = self._confirmed.get(address)
            if node is None or node in nodes:  # a node at two entries confirms only one of them
                lacking.append(address)
            else:
                nodes.add(node)
        return lacking

    def may_continue(self, members: Iterable[str]) -> bool:
        """Whether an increment may be counted under the incarnation now.

        Args:
            members: the addresses of the other members in the newest membership known.
        """
        if self.reason is not None:
            return False
        if not self.settled and not self.unconfirmed(members):
            self.settled = True
        return self.settled

    def overdue(self, members: Iterable[str]) -> list[str]:
        """The members that have not confirmed although the time for it is over.

        If there are any, the node has to begin a new incarnation.

        Args:
            members: the addresses of the other members in the newest membership known.

        Returns:
            An empty list also when there is another reason for a new incarnation already.
        """
        members = list(members)
        return [] if self.reason is not None or self.may_continue(members) else self.unconfirmed(members)

    def minted(self) -> None:
        """Note that a new incarnation is durable: no other node can know more of it than this one."""
        self.settled = True
        self._doubt, self._claims = None, {}


class IdentityHistory:
    """The identity of the node that wrote a damaged log, gathered from its readable records, the oldest first."""

    def __init__(self) -> None:
        self.node: bytes | None = None
        self.incarnation: bytes | None = None
        self._raised: dict[bytes, None] = {}  # all incarnations, the oldest first as far as any record says

    def found(self, identity: Identity) -> None:
        """Take the identity that a later record holds.

        A header names only one incarnation, and it may be the first thing that can be read. A later record then names
        older ones, which belong before it.
        """
        self.node, self.incarnation = identity.node, identity.incarnation
        known, lives = self._raised, dict.fromkeys((*identity.retired, identity.incarnation))
        left, self._raised = iter(lives), {}
        for one in known:
            if one in lives and one not in self._raised:
                while (older := next(left)) != one:
                    self._raised[older] = None
            self._raised[one] = None
        self._raised.update(dict.fromkeys(left))

    def reborn(self, incarnation: bytes, node: bytes, lost: bytes) -> Identity:
        """The identity under which the node goes on with what is left of the log.

        It always has a former incarnation. By this the node knows later that it may have forgotten something, as its
        config: then it does not settle ids as if it had never had members.

        Args:
            incarnation: the id of a new incarnation.
            node: a new node id, which is used when the old one was lost.
            lost: a new id, which stands for the former incarnations when all of them were lost.
        """
        return Identity(self.node or node, incarnation, tuple(self._raised) or (lost,))
