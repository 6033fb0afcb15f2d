"""What a seal computes from what is staged, and the laws that are checked when its batch is committed."""

from collections.abc import Sequence
from operator import add

from gcount.core.limits import MAX_CELL
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes.id_changes import NO_CHANGES
from gcount.core.writes.settling import settlement, settles
from gcount.core.writes.staging import Staging

_TOTAL_EVERY = 4  # batches, times the number of incarnations, from one look at a total to the next


def own_delta(replica: Replica, staged: Staging, others: Sequence[Delta]) -> Delta | None:
    """The delta of this node's own incarnation; None when nothing of it changes.

    The log gets absolute numbers, so that replaying a batch twice does no harm. They are computed only now: when an
    amount is staged, the batch before may still be in flight, and be dropped.

    Args:
        replica: the durable state. No batch is in flight.
        staged: all that was staged for the batch.
        others: the other deltas of the batch.
    """
    incarnation, counters = (staged.identity or replica.identity).incarnation, replica.counters
    version = counters.version(incarnation)
    cells: dict[str, int] = {}
    if staged.amounts:
        own = map(add, counters.cells_of(staged.amounts, incarnation), staged.amounts.values())
        cells = dict(zip(staged.amounts, own, strict=True))
        staged.greatest = max(cells.values())
        assert staged.greatest <= MAX_CELL, "the limits have let a cell pass 2^64-1"
    keyed = None
    if staged.ids is not NO_CHANGES:
        keyed = _keyed(replica, staged, others, version + 1)
    return Delta(incarnation, version, version + 1, cells, keyed) if cells or keyed is not None else None


def _keyed(replica: Replica, staged: Staging, others: Sequence[Delta], version: int) -> Keyed | None:
    """What changes of the own entries and settlements; None when nothing does.

    There is no settlement in a batch with settlements of others, which may cover the same entries.
    """
    totals = staged.ids.seal(replica.counters, others)
    assert not totals or replica.floor is None or staged.ids.oldest > replica.floor, "a durable promise is kept"
    entries = {key: (total, version) for key, total in totals.items()}
    settled = {} if any(map(settles, others)) else _settled(replica, staged)
    return Keyed(entries, settled) if entries or settled else None


def _settled(replica: Replica, staged: Staging) -> dict[bytes, Settlement]:
    """The settlement that was asked for, if there is anything to settle and the batch may hold it.

    A batch that changes identity or membership holds none, as it would rest on the members of before.
    """
    if staged.ids.settle is None or staged.identity is not None or staged.membership is not None:
        return {}
    until = staged.ids.settle()
    return {} if until is None or until < 0 else settlement(replica.counters, replica.identity.incarnation, until)


def new_floor(replica: Replica, staged: Staging, deltas: Sequence[Delta]) -> int | None:
    """The promise that goes into the batch; None when it has none.

    The first batch that concerns ids has one in any case. It says for all starts to come that ids are in use.
    """
    if staged.ids.floor is not None or replica.floor is not None:
        return staged.ids.floor
    return 0 if any(delta.keyed is not None for delta in deltas) else None


def check_own(replica: Replica, batch: Batch, sealed: Staging) -> int:
    """Assert that nothing of the own incarnation has changed since the seal. One cell is checked for all.

    Args:
        replica: the durable state, before the batch is applied.
        batch: the batch.
        sealed: what it was made of.

    Returns:
        The own version after the batch.
    """
    own, counters = sealed.own, replica.counters
    incarnation = (batch.identity or replica.identity).incarnation
    version = counters.version(incarnation)
    if own is None:
        return version
    assert own.incarnation == incarnation, "a batch counts under the incarnation that is in force with it"
    assert own.after == version, "one writer per incarnation"
    if own.cells:
        name, amount = next(reversed(sealed.amounts.items()))
        durable = counters.cell(name, incarnation)
        assert own.cells[name] == durable + amount, f"{durable} + {amount} became {own.cells[name]}"
    assert own.keyed is None or batch.floor is not None or replica.floor is not None, "with an id, ids are in use"
    return own.upto


def check_visible(replica: Replica, batch: Batch, sealed: Staging, version: int) -> None:
    """Assert that the own version counts own commits, and that a total is right.

    One total is checked, in some of the batches: so it costs little, however many incarnations there are.

    Args:
        replica: the durable state, after the batch was applied.
        batch: the batch.
        sealed: what it was made of.
        version: what `check_own` returned.
    """
    counters, number = replica.counters, batch.number
    assert replica.version == version, "a version counts the commits of its own node"
    if number % _TOTAL_EVERY == 0 and sealed.amounts and number // _TOTAL_EVERY % counters.incarnations == 0:
        name = next(iter(sealed.amounts))
        cells = sum(counters.cells(name).values())
        if counters.changed(name) or counters.parts(name):
            assert counters.total(name) >= cells, "ids only add to the cells"
        else:
            assert counters.total(name) == cells, "a total is the sum of its cells"


def total_before(replica: Replica, batch: Batch, sealed: Staging) -> tuple[str, int] | None:
    """A counter that ids raise, and its total before the batch; None when nothing else of the batch may change it."""
    if sealed.ids.gains and len(batch.deltas) == 1:
        name = next(reversed(sealed.ids.gains))
        return name, replica.counters.total(name)
    return None


def check_ids(replica: Replica, sealed: Staging, before: tuple[str, int] | None) -> None:
    """Assert, after a batch, that one counter has grown by what its seal computed, and one id has what was written.

    Args:
        replica: the durable state, after the batch was applied.
        sealed: what the batch was made of.
        before: what `total_before` returned.
    """
    if before is not None:
        name, total = before
        gained = sealed.amounts.get(name, 0) + sealed.ids.gains[name]
        assert replica.counters.total(name) == total + gained, "ids raise a counter by what the seal computed"
    if sealed.ids.written:
        key, total = next(reversed(sealed.ids.written.items()))
        entry = replica.counters.entries.get(key)
        assert entry is not None, "an id that was written is known"
        assert entry.total >= total, "the total of an id never falls"
