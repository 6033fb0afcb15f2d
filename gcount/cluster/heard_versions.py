"""Versions that members have reported. They exist, even if those members lose them afterwards."""

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
from gcount.core.state.replica import Replica
from gcount.core.writes.pending import Pending

MAX_SEEN = 1024  # incarnations in `Hello.seen`

_ID, _VERSION, _ADDRESS = ID_BYTES + 2, 9, MAX_HOST_BYTES + 9  # bytes in a message
_DIGESTS, _RETIRED = (MAX_INCARNATIONS + MAX_SEEN) * (_ID + _VERSION), MAX_INCARNATIONS * _ID
_REST = MAX_MEMBERS * _ADDRESS + MAX_CLUSTER_BYTES + 1024
assert _DIGESTS + _RETIRED + _REST <= MAX_MESSAGE_BYTES, "the longest hello does not fit into a message"


class HeardVersions:
    """The highest versions that this node has heard of, whether it has them or not.

    Args:
        replica: this node's state.
        pending: what waits for this node's disk.
    """

    def __init__(self, replica: Replica, pending: Pending) -> None:
        self._replica = replica
        self._pending = pending
        self._heard: Digest = {}

    def hear(self, digest: Digest) -> None:
        """Take the versions that a member says it has on disk."""
        heard = self._heard
        for incarnation, version in digest.items():
            if version > heard.get(incarnation, 0) and (incarnation in heard or len(heard) < MAX_INCARNATIONS):
                heard[incarnation] = version

    def seen(self, incarnations: Collection[bytes], arriving: Digest) -> Digest:
        """The versions of some incarnations that this node has seen or heard of, but does not have on disk.

        The owner may have forgotten these versions, and has to know of them before it makes them a second time. The
        result does not claim that this node has them.

        Args:
            incarnations: all incarnations of their owner, the most important ones first.
            arriving: the versions in unfinished pushes.
        """
        counters, detached, seen = self._replica.counters, self._replica.detached, dict[bytes, int]()
        staged = self._pending.arriving(incarnations)
        for incarnation in incarnations:
            known = (self._heard, staged, arriving)
            version = max(detached.reaches(incarnation), *(digest.get(incarnation, 0) for digest in known))
            if version > counters.version(incarnation) and len(seen) < MAX_SEEN:
                seen[incarnation] = version
        return seen
