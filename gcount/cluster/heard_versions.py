"""Versions that members were heard to have: those exist, whatever becomes of the members."""

from collections.abc import Collection

from gcount.core.limits import (
    ID_BYTES,
    MAX_CLUSTER_BYTES,
    MAX_HOST_BYTES,
    MAX_INCARNATIONS,
    MAX_MEMBERS,
    MAX_MESSAGE_BYTES,
)
from gcount.core.state.counters import Digest
from gcount.core.state.pending import Pending
from gcount.core.state.replica import Replica

MAX_SEEN = 1024  # incarnations of another node of which a hello tells what was seen beyond this node's disk

_ID, _VERSION, _ADDRESS = ID_BYTES + 2, 9, MAX_HOST_BYTES + 9  # bytes in a message
_DIGESTS, _RETIRED = (MAX_INCARNATIONS + MAX_SEEN) * (_ID + _VERSION), MAX_INCARNATIONS * _ID
_REST = MAX_MEMBERS * _ADDRESS + MAX_CLUSTER_BYTES + 1024
assert _DIGESTS + _RETIRED + _REST <= MAX_MESSAGE_BYTES, "the longest hello does not fit into a message"


class HeardVersions:
    """What this node has heard of, and need not have.

    Args:
        replica: what it has.
        pending: what is on its way to its disk.
    """

    def __init__(self, replica: Replica, pending: Pending) -> None:
        self._replica = replica
        self._pending = pending
        self._heard: Digest = {}

    def hear(self, digest: Digest) -> None:
        """A member told what it has on disk."""
        heard = self._heard
        for incarnation, version in digest.items():
            if version > heard.get(incarnation, 0) and (incarnation in heard or len(heard) < MAX_INCARNATIONS):
                heard[incarnation] = version

    def seen(self, incarnations: Collection[bytes], arriving: Digest) -> Digest:
        """The versions of some incarnations that were seen or heard of, where this node has less on disk.

        Their owner may have forgotten them, and has to know before it makes them a second time. No claim to have them.

        Args:
            incarnations: the owner's, the most important ones first.
            arriving: what parts of unfinished pushes would bring this node to.
        """
        counters, detached, seen = self._replica.counters, self._replica.detached, dict[bytes, int]()
        staged = self._pending.arriving(incarnations)
        for incarnation in incarnations:
            known = (self._heard, staged, arriving)
            version = max(detached.reaches(incarnation), *(digest.get(incarnation, 0) for digest in known))
            if version > counters.version(incarnation) and len(seen) < MAX_SEEN:
                seen[incarnation] = version
        return seen
