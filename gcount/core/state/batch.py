"""A batch: what one write and one sync of the log make durable."""

import msgspec

from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one sync made durable.

    Args:
        number: counts batches over the whole log, from 1, without gaps.
        deltas: joined in order.
        identity: the node's new identity, if it changed.
        membership: the new membership, if it changed.
    """

    number: int
    deltas: list[Delta]
    identity: Identity | None = None
    membership: Membership | None = None
