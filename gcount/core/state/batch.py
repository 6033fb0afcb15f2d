"""A batch: all increments and deltas that become durable with one write and one sync of the log.

Rot may take a settlement out of a log and leave a delta that rests on it: entries that the settlement covers were left
out of the delta; or the delta settles the same column again, and does not add up anew what is in another one. Joined
without the settlement, such a delta would claim versions of which ids are missing, and no peer would offer these. So a
batch says which settlements its deltas need. Without these, what is left of a delta is detached (see
detached_deltas.py).
"""

from collections.abc import Collection

import msgspec

from gcount.core.state.counters import Counters, Delta
from gcount.core.state.detached_deltas import remainder
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Cover
from gcount.core.state.membership import Membership


class Needs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The settlements that some deltas of a batch need.

    A delta may need only some of them, and is detached if any is lacking. As a rule that costs another push of it.

    Args:
        columns: the incarnations of these deltas.
        versions: by settler, its version with its newest settlement that any of them needs.
    """

    columns: list[bytes]
    versions: dict[bytes, int]


class Batch(msgspec.Struct, frozen=True, gc=False):
    """All that becomes durable with one sync.

    Args:
        number: counts the batches of the whole log, from 1, without gaps.
        deltas: are joined in this order.
        identity: the node's new identity, if it changed.
        membership: the new membership, if it changed.
        floor: the node's new promise to take no id with a time up to here any more, if it changed; in seconds since
            1970. The first one is 0. It says that all members understand ids.
        needs: the settlements that deltas need; None if none does. The node knew them before, or the batch brings
            them. Only a log that was repaired may have lost them.
    """

    number: int
    deltas: list[Delta]
    identity: Identity | None = None
    membership: Membership | None = None
    floor: int | None = None
    needs: Needs | None = None


def needs_of(counters: Counters, deltas: Collection[Delta]) -> Needs | None:
    """What deltas need of the settlements that are known once they are joined; None if nothing.

    A delta needs settlements of its own column that cover versions which it brings: its sender left these entries out.
    A settlement needs those of other settlers for the same column: it covers ids that they have added up for others.

    Args:
        counters: what is known before.
        deltas: all that are joined together. Of one behind a gap, the settlements are not known yet.
    """
    covers = counters.settlements.covers
    if not any(_may_need(delta, covers.get(delta.incarnation, ())) for delta in deltas):
        return None
    of = _by_column(counters, deltas)
    columns, versions = set[bytes](), dict[bytes, int]()
    for delta in deltas:
        settled = () if delta.keyed is None else delta.keyed.settled
        for column in {delta.incarnation, *settled}:
            for settler, version, upto in of[column]:
                if settler != delta.incarnation and (column in settled or version > delta.after):
                    columns.add(delta.incarnation)
                    versions[settler] = max(upto, versions.get(settler, 0))
    return Needs(sorted(columns), versions) if columns else None


def _may_need(delta: Delta, cover: Cover) -> bool:
    """Whether a delta brings settlements, or versions of its column that are covered. Usually it does neither."""
    if delta.keyed is not None and delta.keyed.settled:
        return True
    return bool(cover) and cover[-1][1] > delta.after  # the last one goes furthest in versions


def _by_column(counters: Counters, deltas: Collection[Delta]) -> dict[bytes, list[tuple[bytes, int, int]]]:
    """For the columns that some deltas bring or settle, each settlement that will be known.

    Returns:
        By column: the settlers, each with the version of the column up to which it has settled it, and with its own
        version that says so.
    """
    found: dict[bytes, list[tuple[bytes, int, int]]] = {delta.incarnation: [] for delta in deltas}
    settling = [(delta, delta.keyed.settled) for delta in deltas if delta.keyed is not None and delta.keyed.settled]
    for _, settled in settling:
        found |= {column: [] for column in settled}
    for settler, column, one in counters.settlements.items():
        if column in found:
            found[column].append((settler, one.version, one.parts.version))
    for delta, settled in settling:
        if counters.fits(delta):
            for column, settlement in settled.items():
                found[column].append((delta.incarnation, settlement.version, delta.upto))
    return found


def as_joinable(counters: Counters, batch: Batch, needs: Needs) -> list[Delta]:
    """The deltas of a batch as they can be joined. Of a delta that lacks a settlement, only a remainder is left.

    Args:
        counters: what is known before.
        batch: the batch.
        needs: what it needs. It may bring that itself.

    Returns:
        The very deltas of the batch if none lacks anything, as in each log that is whole.
    """
    lacking = set[bytes]()
    while unknown := _unknown(counters, batch, needs, lacking):
        more = {column for column in needs.columns if column not in lacking and unknown != {column}}
        if not more:
            break
        lacking |= more  # what these would have brought may be needed by others
    if not lacking:
        return batch.deltas
    return [remainder(delta) if delta.incarnation in lacking else delta for delta in batch.deltas]


def _unknown(counters: Counters, batch: Batch, needs: Needs, lacking: Collection[bytes]) -> set[bytes]:
    """The settlers that are not known as far as needed, once all deltas are joined but those of some incarnations."""
    known = {settler: counters.version(settler) for settler in needs.versions}
    for delta in batch.deltas:
        who = delta.incarnation
        if who in known and who not in lacking and delta.after <= known[who]:
            known[who] = max(delta.upto, known[who])
    return {settler for settler, version in needs.versions.items() if known[settler] < version}
