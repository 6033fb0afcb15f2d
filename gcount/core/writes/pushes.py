"""Stages what a peer has pushed: all that can be taken of it, or nothing if a settlement is missing.

A settlement covers entries, and the sender leaves those out. A node that took the deltas without the settlement would
miss these entries for good: its versions would say that it has them. So it takes such a push only with the settlement.
"""

from collections.abc import Collection, Iterable

from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.writes.writer import Writer


def stage_push(writer: Writer, deltas: Collection[Delta], needs: Digest, *, member: bool = True) -> bool:
    """Stage the whole deltas of a push. Those that can't be taken are left out.

    Args:
        writer: stages them.
        deltas: the deltas.
        needs: by settler, its version with the newest settlement that the sender knew.
        member: whether the sender is a member. Otherwise all deltas are of its own incarnations, and of its settlements
            those are not taken by which a value would fall.

    Returns:
        False when nothing was staged, because with what can be taken this node would lack a settlement, or a column
        that a stranger has settled.
    """
    staging = writer.pending.staging
    staged, names, new, spans = len(staging.deltas), staging.new_names, set[bytes](), set[int]()
    if needs or not member:
        new, spans = set(staging.new), set(staging.new_spans)
    stranger = None if member else {delta.incarnation for delta in deltas}
    taken = [delta for delta in deltas if writer.stage_delta(delta, stranger)]
    counters = writer.replica.counters
    if knows(counters, taken, needs) and (member or _has_all_settled(counters, taken)):
        return True
    del staging.deltas[staged:]
    staging.new_names, staging.new, staging.new_spans = names, new, spans
    return False


def knows(counters: Counters, deltas: Iterable[Delta], needs: Digest) -> bool:
    """Whether a node knows all settlements that a push needs once it has joined some deltas.

    Args:
        counters: what it has on disk.
        deltas: what it joins. A delta behind a gap is detached, so that it brings nothing yet.
        needs: by settler, the version of its newest settlement.
    """
    lacking = {settler for settler, version in needs.items() if counters.version(settler) < version}
    if not lacking:
        return True
    brought = {
        delta.incarnation for delta in deltas if counters.fits(delta) and delta.upto >= needs.get(delta.incarnation, 0)
    }
    return lacking <= brought


def _has_all_settled(counters: Counters, deltas: Collection[Delta]) -> bool:
    """Whether a node that joins some deltas has all versions that they settle.

    As long as it lacks some of them it can settle no id of that column. Of a stranger, they may not exist.
    """
    known = {delta.incarnation: delta.upto for delta in deltas if counters.fits(delta)}
    return all(
        one.version <= max(counters.version(column), known.get(column, 0))
        for delta in deltas
        if delta.keyed is not None
        for column, one in delta.keyed.settled.items()
    )
