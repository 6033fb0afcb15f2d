"""Incarnations with two histories: two processes have counted under one, or a disk has forgotten and gone on.

Each history may hide increments of the other for good. Only an operator can judge what that means. So a fork that is
certain is logged as an error and shown in `/status`. A fork that anybody may have made up is only a line in the log.
"""

import structlog

from gcount.cluster.members import Members
from gcount.core.state.replica import Replica
from gcount.observe.throttle import Throttle

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Forks:
    """All forks that this process has seen.

    Args:
        replica: the state.
        members: the members of the cluster.

    Attributes:
        shown: by incarnation, the version from which on its histories differ, or an earlier version.
    """

    def __init__(self, replica: Replica, members: Members) -> None:
        self.shown: dict[bytes, int] = {}
        self._replica = replica
        self._members = members
        self._claimed = set[bytes]()
        self._line = Throttle("two histories claimed", quiet=60.0)

    def show(self, incarnation: bytes, version: int, how: str) -> None:
        """Report that an incarnation has two histories.

        Args:
            incarnation: the incarnation.
            version: the version from which on they differ, or an earlier one.
            how: what has shown it, in words.
        """
        if incarnation not in self.shown:
            self.shown[incarnation] = version
            logger.error(
                "two histories of one incarnation",
                incarnation=incarnation.hex(),
                from_version=version,
                reason=how,
                effect="some of what was counted under it may be hidden; see docs/guarantees.md, What is assumed",
            )

    def claim(self, incarnation: bytes, how: str) -> None:
        """Report that an incarnation may have two histories. The source is not a member, so this is no proof.

        Args:
            incarnation: the incarnation.
            how: what has shown it, in words.
        """
        if incarnation not in self.shown and incarnation not in self._claimed:
            self._claimed.add(incarnation)
            self._line.warn(
                incarnation=incarnation.hex(),
                reason=how,
                effect="none, if no copy of a data directory runs; it is not proven, so it is not in /status",
            )

    def look(self) -> None:
        """Report the forks that deltas have shown. Anybody can make up an incarnation that no member owns."""
        for incarnation, version in self._replica.counters.forks.items():
            if self._replica.identity.owns(incarnation) or self._members.is_of_member(incarnation):
                self.show(incarnation, version + 1, "a member sent a smaller part of it than this node knows")
            else:
                self.claim(incarnation, "a node outside the config sent a smaller part of it than this node knows")
