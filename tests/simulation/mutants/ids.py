"""Planted bugs of increments with ids: one for each rule on which it rests that every id counts once."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import patch
from weakref import WeakKeyDictionary

from gcount.core.protocol.counter_views import Found, Own, covers
from gcount.core.protocol.floors import Floors
from gcount.core.protocol.read_rounds import ReadRounds
from gcount.core.protocol.told_ids import Learned
from gcount.core.state import settlements
from gcount.core.state.counters import Counters
from gcount.core.state.entries import Entries
from gcount.core.state.ids import split
from gcount.core.state.keyed import Settlement
from gcount.core.state.replica import Replica
from gcount.core.state.settlements import Settlements
from gcount.core.writes import sealing, settling, writer
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.pending import Pending
from gcount.core.writes.writer import Writer
from tests.simulation.mutants.planted import mutant

Settled = dict[bytes, Settlement]
FAR = 10**11  # seconds since 1970

# Values


@mutant(Counters, "total")
def sum_over_columns(total: Any) -> Any:
    """Of an id that several incarnations have taken, all totals count."""

    def change(self: Counters, name: str) -> int:
        others = (one.total for key, best in self.entries.items() if split(key)[1] == name for one in best.others)
        return int(total(self, name)) + sum(others)

    return change


@mutant(Settlements, "part")
def parts_added_up(_: Any) -> Any:
    """Of two settlements of one column, both parts count."""

    def change(self: Settlements, column: bytes, index: int) -> int:
        return sum(one.parts.get(index) for one in self._of.get(column, ()))

    return change


@mutant(Entries, "drop_covered")
def settled_entries_kept(_: Any) -> Any:
    """Entries count on when they are settled."""
    return lambda self, covers, changes: None


# Taking ids


@mutant(IdRules, "refusal")
def promise_not_kept(refusal: Any) -> Any:
    """A node takes ids of a time for which it has promised to take no more."""
    return lambda self, id_, time, floor: refusal(self, id_, time, -1)


@mutant(IdRules, "refusal")
def clock_not_asked(refusal: Any) -> Any:
    """A node takes ids of any age, unless it has promised to take no more of that time."""
    return lambda self, id_, time, floor: refusal(self, id_, time, floor) if time <= floor else None


@mutant(Pending, "promised")
def accepts_until_the_promise_is_durable(_: Any) -> Any:
    """A promise does not bind while it waits for the disk."""
    return property(lambda self: -1 if self._replica.floor is None else self._replica.floor)


# Promises


@mutant(IdRules, "grace")
def no_lag(_: Any) -> Any:
    """A node promises to take no more ids as soon as it refuses them, though others may still take them."""
    return 0.0


@mutant(Writer, "stage_floor")
def promise_told_before_durable(stage_floor: Any) -> Any:
    """A promise is told while it waits for the disk."""

    def change(self: Writer, floor: int) -> bool:
        staged = bool(stage_floor(self, floor))
        self.replica.floor = max(floor, self.replica.floor or 0)
        return staged

    return change


@mutant(Floors, "told")
def promises_not_awaited(told: Any) -> Any:
    """Ids are settled though members may still take some of that time."""
    return lambda self, address, process, floor, digest: told(self, address, process, FAR, digest)


@mutant(Floors, "_covers")
def digests_not_awaited(_: Any) -> Any:
    """Ids are settled though some that a member had when it promised have not come yet."""
    return lambda self, digest: True


@mutant(Floors, "told")
def digest_older_than_the_promise(told: Any) -> Any:
    """Of what a member had when it promised, only that is awaited which it had told before."""

    def change(self: Floors, address: str, process: Any, floor: int, digest: Any) -> None:
        known = self._told.get(address)
        same = known is not None and known.process == process
        told(self, address, process, floor, known.digest if known is not None and same else digest)

    return change


@mutant(Floors, "hold")
def one_node_stands_for_two_members(hold: Any) -> Any:
    """Ids are settled by a node to which the entry of another member leads, too, without that member."""

    def change(self: Floors, until: int, members: Any, here: Any) -> Any:
        others = [entry for entry in members if entry not in here]
        return hold(self, until, others, here)

    return change


# Settling


@mutant(sealing, "settlement")
def sum_when_settling(settlement: Any) -> Any:
    """Of an id that several incarnations have taken, all totals are settled."""

    def change(counters: Counters, settler: bytes, until: int) -> Settled:
        found: Settled = settlement(counters, settler, until)
        for key, best in counters.entries.items():
            name = split(key)[1]
            if best.holder in found and name in found[best.holder].parts:
                found[best.holder].parts[name] += sum(other.total for other in best.others)
        return found

    return change


@mutant(sealing, "_settled")
def own_column_only(settled: Any) -> Any:
    """Only the entries of the settler are settled, though others hold the same ids."""

    def change(replica: Replica, staged: Any) -> Settled:
        own = replica.identity.incarnation
        return {column: one for column, one in settled(replica, staged).items() if column == own}

    return change


@mutant(sealing, "_settled")
def settled_in_two_commits(settled: Any) -> Any:
    """The first column is settled in one commit, and all others in the next one."""
    left: WeakKeyDictionary[Replica, Settled] = WeakKeyDictionary()

    def change(replica: Replica, staged: Any) -> Settled:
        rest = left.pop(replica, None)
        if rest is not None:
            return rest
        found: Settled = settled(replica, staged)
        first = min(found, default=b"")
        if len(found) > 1:
            left[replica] = {column: one for column, one in found.items() if column != first}
        return {column: one for column, one in found.items() if column == first}

    return change


@mutant(sealing, "settlement")
def covers_later_versions(settlement: Any) -> Any:
    """A settlement covers what an incarnation took and what has not come yet."""

    def change(counters: Counters, settler: bytes, until: int) -> Settled:
        found: Settled = settlement(counters, settler, until)
        return {column: Settlement(one.until, one.version + 1000, one.parts) for column, one in found.items()}

    return change


@mutant(Settlements, "needs")
def needs_not_checked(_: Any) -> Any:
    """A push says nothing of the settlements that cover what is left out of it."""
    return lambda self: {}


@mutant(writer, "keeping_values")
def closed_without_a_lost_settlement(_: Any) -> Any:
    """A gap is closed with parts that lack what only a settlement in the gap has added up."""
    return lambda counters, closing: closing


@mutant(writer, "needs_of")
def needs_not_written(_: Any) -> Any:
    """A batch says nothing of the settlements on which its deltas rest, so that rot can take these from under them."""
    return lambda counters, deltas: None


# Consistent reads


@mutant(Own, "knows")
def entries_not_compared(_: Any) -> Any:
    """A read is confirmed though a member has ids that the reader lacks."""
    return lambda self, other: covers(self.found.parts, other.parts)


@mutant(Own, "knows")
def settled_parts_not_compared(_: Any) -> Any:
    """A read is confirmed though a member has settled ids that the reader lacks."""
    return lambda self, other: all(n <= self.reach(holder) for holder, n in other.changed.items())


@mutant(ReadRounds, "answered")
def keyed_part_taken_at_the_end(answered: Any) -> Any:
    """What ids come to is taken when the last member answers, and not when the round is sent."""

    def change(self: ReadRounds, number: int, address: str, node: bytes, found: Any, now: float) -> Any:
        pending = self._asked.get(number)
        for round_ in pending.rounds if pending is not None else ():
            if pending is not None and round_.number == number:
                round_.own = round_.own._replace(keyed=self._view.own(pending.name, pending.learned).keyed)
        return answered(self, number, address, node, found, now)

    return change


@mutant(Learned, "take")
def only_versions_told(take: Any) -> Any:
    """Of what an answer tells, a reader takes up to where it knows the ids, without the ids."""

    def change(self: Learned, found: Found, digest: Any) -> None:
        take(self, found._replace(told=found.told and found.told._replace(entries={})), digest)

    return change


@mutant(Learned, "added_to")
def told_ids_count_again(added_to: Any) -> Any:
    """An id that an answer tells counts beside what the reader has of it."""

    def change(self: Learned, own: Own, name: str, counters: Counters) -> Own:
        with patch.object(counters.entries, "get", lambda key: None):
            return cast(Own, added_to(self, own, name, counters))

    return change


@mutant(settlements, "_maximal")
def contained_settlements_count(_: Any) -> Any:
    """Of all settlements of a column the greatest part counts, also of one that another one contains."""
    return lambda pairs: tuple(sorted(set(pairs), reverse=True))


@mutant(settling, "_parts_of_others")
def parts_of_others_not_taken_over(_: Any) -> Any:
    """A settlement that contains those of others says only the parts of counters that have ids now."""
    return lambda settlements, settler, column, most=0: {}
