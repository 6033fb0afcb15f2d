"""All settlements of a run, in the order of the journal: what each one covered and added up, and what it missed.

An entry is *missed* by a settlement if the settlement adds up its id and does not cover the entry. Then the id counts
twice where both are known. A settlement may miss only what the protocol does not promise: an entry that no member of
the settler's config had on its disk when it promised to take no more ids of that time. Such entries come from

- a node outside that config, also one that knew of no config yet;
- a directory that was made to forget its promise, if the node's clock was behind by more than the grace; or
- a copy of a directory that was put back.

The ids of such entries are *let off*: they may count more than once, and fall back to once.

Ids are *doubtful* if an incarnation with two histories (a copy of a directory ran at the original's own address) has
taken or settled them: nothing at all is promised of those. A node that has the other history may count them as long as
it does not know the settlement, or never.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gcount.core.state.counters import Delta
from gcount.core.state.ids import split
from gcount.core.state.keyed import Covers, Settlement
from tests.simulation.campaign.amounts import UNIT
from tests.simulation.campaign.history import Entry, History, Repaired, Stored
from tests.simulation.laws.durable_state import DurableState, host_of
from tests.simulation.laws.line_ids import LineIds, Parts, covered, time_of_key

Taken = dict[str, dict[bytes, tuple[int, int]]]
"""By key and holder: a total and a version."""


@dataclass(frozen=True)
class Promise:
    """A promise of a line to take no id with a time up to `floor`, and the entries up to there that it had then."""

    floor: int
    had: Taken


@dataclass(frozen=True)
class Fold:
    """A settlement: the ids that it added up, what is settled with it, and the members that had promised."""

    keys: frozenset[str]
    covers: Covers
    members: tuple[str, ...]
    seen: frozenset[tuple[str, bytes, int]]  # the entries of these ids on any disk at that time


@dataclass
class Settlements:
    """All settlements of a run.

    Args:
        history: the run.

    Attributes:
        state: the disks.
        late: the keys that are let off.
        doubtful: the keys of which nothing is promised.
    """

    history: History
    state: DurableState = field(init=False)
    late: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    _folds: list[Fold] = field(default_factory=list)
    _members: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by line
    _promises: defaultdict[str, list[Promise]] = field(default_factory=lambda: defaultdict(list))  # by line

    def __post_init__(self) -> None:
        self.state = DurableState(self.history.members)

    def put(self, entry: Entry) -> Iterator[str]:
        """Go on to the next entry; yields what is wrong with it."""
        if not isinstance(entry, Stored):
            self.state.put(entry)
            if isinstance(entry, Repaired):
                self._members[entry.new_line] = self._members.get(entry.line, ())
                self._arrived(entry.new_line, entry.deltas, None)
            return
        line = entry.line
        settled, fold = self._settled(entry), None
        if settled is not None:
            assert entry.own is not None, "a node settles in its own column"
            fold, wrong = self._add_up(line, entry.own, settled)
            yield from wrong
        self.state.put(entry)
        if entry.members is not None:
            self._members[line] = entry.members
        if fold is not None and entry.own in self.state.forked:
            self.doubtful |= fold.keys
        elif fold is not None:
            yield from self._judge(line, fold)
        self._arrived(line, entry.deltas, entry.own)
        self._note_promise(line, entry)

    def _settled(self, entry: Stored) -> dict[bytes, Settlement] | None:
        """The settlement that a batch makes; None if it makes none."""
        for delta in entry.deltas:
            if delta.incarnation == entry.own and delta.keyed is not None and delta.keyed.settled:
                return delta.keyed.settled
        return None

    def _add_up(self, line: str, own: bytes, settled: dict[bytes, Settlement]) -> tuple[Fold, list[str]]:
        """What a settlement covers, before it is on disk; and what it adds up wrongly."""
        ids, versions, wrong = self.state.ids[line], self.state.versions[line], []
        covers = ids.covers_with(own, settled)
        for column, one in settled.items():
            if one.version > versions.get(column, 0):
                wrong.append(f"settles version {one.version} of {_shown(column)}; it has {versions.get(column, 0)}")
        keys: dict[str, int] = {}
        for key, holder, total, version in ids.live():
            if covered(covers, key, holder, version):
                keys[key] = max(total, keys.get(key, 0))
        before, after = ids.parts(), ids.parts(own, settled)
        for name in {split(key)[1] for key in keys} | {name for _, name in after}:
            added = sum(total for key, total in keys.items() if split(key)[1] == name)
            got = _sum(after, name) - _sum(before, name)
            if got != added and not self._forked_among(name, keys, ids):
                wrong.append(f"settles ids of {name} that come to {added:#x}, and adds {got:#x}")
        found = frozenset(self._on_disk(frozenset(keys)))
        fold = Fold(frozenset(keys), covers, self._members.get(line, ()) or (host_of(line),), found)
        return fold, wrong

    def _forked_among(self, name: str, keys: Iterable[str], ids: LineIds) -> bool:
        """Whether an incarnation with two histories holds some of a counter's ids: it may have two totals of one id."""
        return any(self.state.forked.keys() & ids.entries[key].keys() for key in keys if split(key)[1] == name)

    def _on_disk(self, keys: frozenset[str]) -> Iterator[tuple[str, bytes, int]]:
        for ids in self.state.ids.values():
            for key in keys & ids.entries.keys():
                for holder, (_, version) in ids.entries[key].items():
                    yield key, holder, version

    def _judge(self, line: str, fold: Fold) -> Iterator[str]:
        """What a settlement should have waited for."""
        self._folds.append(fold)
        promised = {member: list(self._promised(member)) for member in fold.members}
        for key in sorted(fold.keys):
            time = time_of_key(key)
            for member, promises in promised.items():
                if not any(promise.floor >= time for promise in promises) and not self.history.lost_address:
                    yield f"settles {key}, which {member} may still take"
        for key, holder, version in sorted(fold.seen):
            if not covered(fold.covers, key, holder, version):
                who = self._who_had(fold, promised, key, holder, version)
                if who and not self.history.lost_address:
                    yield f"settles {key} without version {version} of {_shown(holder)}, which {who} had"
                else:
                    self.late.add(key)

    def _promised(self, member: str) -> Iterator[Promise]:
        for line, promises in self._promises.items():
            if host_of(line) == member:
                yield from promises

    def _who_had(
        self, fold: Fold, promised: dict[str, list[Promise]], key: str, holder: bytes, version: int
    ) -> str | None:
        """A member that had an entry whenever it promised to take no more ids of that time."""
        time = time_of_key(key)
        for member, promises in promised.items():
            binding = [promise for promise in promises if promise.floor >= time]
            if binding and all(p.had.get(key, {}).get(holder, (0, 0))[1] >= version for p in binding):
                return member
        return None

    def _arrived(self, line: str, deltas: tuple[Delta, ...], own: bytes | None) -> None:
        """Let off ids that were settled without an entry that was on no disk then."""
        for delta in deltas:
            if delta.keyed is None or own not in (None, delta.incarnation):
                continue
            for key, (_, version) in delta.keyed.entries.items():
                entry = key, delta.incarnation, version
                missed = [
                    fold
                    for fold in self._folds
                    if key in fold.keys
                    and entry not in fold.seen
                    and not covered(fold.covers, key, delta.incarnation, version)
                ]
                kept = self.state.ids[line].floor >= time_of_key(key) and own is not None
                if missed and not kept:  # otherwise the line has broken its promise: that is not let off
                    self.late.add(key)

    def _note_promise(self, line: str, entry: Stored) -> None:
        floor, promises = self.state.ids[line].floor, self._promises[line]
        if entry.own is None:
            promises.clear()
        if floor >= 0 and (not promises or floor > promises[-1].floor):
            entries = self.state.ids[line].entries
            had = {key: dict(of) for key, of in entries.items() if time_of_key(key) <= floor}
            promises.append(Promise(floor, had))


def late_units(history: History) -> dict[str, int]:
    """By name, the bits of all units of ids that are let off or doubtful."""
    late, doubtful = _let_off(history)
    return {name: late.get(name, 0) | doubtful.get(name, 0) for name in late | doubtful}


def doubtful_units(history: History) -> dict[str, int]:
    """By name, the bits of all units of ids of which nothing is promised."""
    return _let_off(history)[1]


def doubtful_keys(history: History) -> set[str]:
    """The keys of the ids of which nothing is promised."""
    doubtful = doubtful_units(history)
    return {sent.key for sent in history.sent if sent.total * UNIT & doubtful.get(sent.name, 0)}


def _let_off(history: History) -> tuple[dict[str, int], dict[str, int]]:
    if history.let_off is None:
        settlements = Settlements(history)
        for entry in history.journal if history.window else ():
            for _ in settlements.put(entry):
                pass
        taken = _taken_twofold(history, settlements.state)
        history.let_off = _bits(history, settlements.late), _bits(history, settlements.doubtful | taken)
    return history.let_off


def _bits(history: History, keys: set[str]) -> dict[str, int]:
    mask: dict[str, int] = {}
    for sent in history.sent:
        if sent.key in keys:
            mask[sent.name] = mask.get(sent.name, 0) | sent.total * UNIT
    return mask


def _taken_twofold(history: History, state: DurableState) -> set[str]:
    """The ids that an incarnation with two histories has taken."""
    return {
        key
        for entry in history.journal
        for delta in (entry.deltas if isinstance(entry, Stored) else ())
        if delta.keyed is not None and delta.incarnation in state.forked
        for key in delta.keyed.entries
    }


def _sum(parts: Parts, name: str) -> int:
    return sum(n for (_, other), n in parts.items() if other == name)


def _shown(incarnation: bytes) -> str:
    return incarnation.hex()[:6]
