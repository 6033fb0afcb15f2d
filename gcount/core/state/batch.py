"""A batch: all increments and deltas that become durable with one write and one sync of the log."""

import msgspec

from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership


class Batch(msgspec.Struct, frozen=True, gc=False):
    """All that becomes durable with one sync.

    Args:
        number: counts the batches of the whole log, from 1, without gaps.
        deltas: are joined in this order.
        identity: the node's new identity, if it changed.
        membership: the new membership, if it changed.
        floor: the node's new promise to take no id with a time up to here any more, if it changed; in seconds since
            1970. The first one is 0. It says that all members understand ids.
    """

    number: int
    deltas: list[Delta]
    identity: Identity | None = None
    membership: Membership | None = None
    floor: int | None = None
