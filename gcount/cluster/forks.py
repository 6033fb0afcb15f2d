"""Incarnations of which two histories showed: two processes have counted under one, or a disk forgot and went on.

Increments of one of the histories may be hidden by the other for good. Only an operator can tell what that means, so
what is certain is told as an error and in `/status`; what anybody may have made up is a line in the log, and no more.
"""

import structlog

from gcount.cluster.members import Members
from gcount.core.state.replica import Replica
from gcount.observe.throttle import Throttle

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Forks:
    """All of them that this start has seen.

    Args:
        replica: the state.
        members: who belongs to the cluster.

    Attributes:
        shown: incarnations, each with the version from which on its histories differ, or an earlier one.
    """

    def __init__(self, replica: Replica, members: Members) -> None:
        self.shown: dict[bytes, int] = {}
        self._replica = replica
        self._members = members
        self._claimed = set[bytes]()
        self._line = Throttle("two histories claimed", quiet=60.0)

    def show(self, incarnation: bytes, version: int, how: str) -> None:
        """Two histories of an incarnation showed.

        Args:
            incarnation: whose.
            version: from which on, or from an earlier one.
            how: what showed it.
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
        """Somebody who may be anybody says what would make two histories of an incarnation; it is no proof.

        Args:
            incarnation: whose.
            how: what was said.
        """
        if incarnation not in self.shown and incarnation not in self._claimed:
            self._claimed.add(incarnation)
            self._line.warn(
                incarnation=incarnation.hex(),
                reason=how,
                effect="none, if no copy of a data directory runs; it is not proven, so it is not in /status",
            )

    def look(self) -> None:
        """Say of which incarnations deltas have told two histories; those of no member are anybody's to make up."""
        for incarnation, version in self._replica.counters.forks.items():
            if self._replica.identity.owns(incarnation) or self._members.is_members(incarnation):
                self.show(incarnation, version + 1, "a member told less of it than is known here")
            else:
                self.claim(incarnation, "a node that is no member told less of it than is known here")
