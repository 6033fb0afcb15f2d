"""A writer that takes ids, and what tests of it share. The clock shows 10,000 s; ids are taken for 100 s."""

from __future__ import annotations

from collections.abc import Callable
from operator import sub

from gcount.core.options import Options
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.increments import Raise
from gcount.core.writes.staging import Before, Staged, Staging
from gcount.core.writes.writer import Writer
from gcount.errors import Refusal
from tests.core.histories import incarnation
from tests.core.test_writer import ME

NOW = 10_000
WINDOW = 100
SPAN = 10
OPTIONS = Options(id_span=SPAN)
A = incarnation(1)
B = incarnation(2)


def writer(
    max_counters: int = 1000,
    most: int = 1000,
    now: Callable[[], float] = lambda: NOW,
    unavailable: Callable[[], str] = lambda: "",
    is_known: Callable[[bytes], bool] = lambda _: True,
    options: Options = OPTIONS,
) -> Writer:
    """A writer of a blank replica."""
    replica = Replica(ME, max_counters, options)
    return Writer(replica, IdRules(now, unavailable, WINDOW, most, is_known))


def raised(total: int, id_: str = "x", name: str = "a", *, time: int = NOW, once: bool = False) -> Raise:
    """A source's total; its id is `TIME-ID`."""
    return Raise(name, f"{time}-{id_}", total, once)


def sent(amount: int, id_: str = "x", name: str = "a", *, time: int = NOW) -> Raise:
    """An increment with an id."""
    return raised(amount, id_, name, time=time, once=True)


def entry(
    total: int, version: int = 1, id_: str = "x", name: str = "a", *, time: int = NOW
) -> dict[str, tuple[int, int]]:
    """What another node holds of an id."""
    return {f"{time}-{id_} {name}": (total, version)}


def peers(holder: bytes, entries: dict[str, tuple[int, int]], after: int = 0) -> Delta:
    """A peer's delta with entries, of the version after `after`."""
    return Delta(holder, after, after + 1, {}, Keyed(entries))


def settling(settler: bytes, settled: dict[bytes, Settlement], after: int = 0) -> Delta:
    """A peer's delta with a settlement."""
    return Delta(settler, after, after + 1, {}, Keyed(settled=settled))


def before(one: Writer, sealed: Staging) -> Before:
    """The values before a batch that was just committed; as the committer has it."""
    counters, amounts = one.replica.counters, sealed.amounts
    found = Before(zip(amounts, map(sub, counters.totals_of(amounts), amounts.values()), strict=True), counters.total)
    found.leave_out(amounts, sealed.ids)
    return found


def answers(one: Writer, *staged: Staged) -> list[list[int | str]]:
    """Seal and commit what is staged; returns the answers to each request, refusals by their class."""
    one.seal()
    sealed = one.pending.sealed
    one.commit()
    values = before(one, sealed)
    return [
        [type(each).__name__ if isinstance(each, Refusal) else each for each in request.values(values)]
        for request in staged
    ]


def refusal(one: Writer, asked: Raise) -> str:
    """Why a raise is refused, by the class; empty if it is staged."""
    [found] = one.stage([asked]).waiting
    return type(found).__name__ if isinstance(found, Refusal) else ""
