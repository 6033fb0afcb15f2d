"""Histories of incarnations that also take ids and settle them, and what a naive model says of them.

What a replica holds is a function of its digest alone: of each incarnation the commits up to its version. The model
computes it anew from these, so that no order of arrival can matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from hypothesis import strategies as st

from gcount.core.options import Options
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import Entry, Keyed, Settlement
from tests.core.histories import incarnation

NAMES = ("a", "b c")
KEYS = tuple(f"{time}-{letter} {name}" for time in (3, 7, 12, 31) for letter in "xy" for name in NAMES)
SPAN = 10  # seconds of ids in one bucket
TINY = Options(id_span=SPAN, column_recent_least=1, column_recent_most=2, column_piece=2, sum_slice=1)
USUAL = Options(id_span=SPAN)
sizes = st.sampled_from((TINY, USUAL))


@dataclass(frozen=True)
class Commit:
    cells: dict[str, int] = field(default_factory=dict)
    raised: dict[str, int] = field(default_factory=dict)
    settled: dict[bytes, Settlement] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyedHistory:
    """All commits of one incarnation: what each added to counters and to ids, and what it settled."""

    incarnation: bytes
    commits: list[Commit]

    def delta(self, after: int, upto: int) -> Delta:
        cells, changed, whole = dict[str, int](), set[str](), Keyed()
        for version, commit in enumerate(self.commits[:upto], start=1):
            for name, amount in commit.cells.items():
                cells[name] = cells.get(name, 0) + amount
            entries = {key: (n + whole.entries.get(key, (0, 0))[0], version) for key, n in commit.raised.items()}
            whole.merge(Keyed(entries, commit.settled))
            if version > after:
                changed |= commit.cells.keys()
        entries = {key: entry for key, entry in whole.entries.items() if entry[1] > after}
        settled = {column for commit in self.commits[after:upto] for column in commit.settled}
        keyed = Keyed(entries, {column: whole.settled[column] for column in settled})
        return Delta(self.incarnation, after, upto, {name: cells[name] for name in changed}, keyed or None)


def a_commit(chance: Random) -> Commit:
    def some(of: Sequence[str], most: int) -> dict[str, int]:
        return {chosen: chance.randint(1, 5) for chosen in chance.sample(of, chance.randint(0, most))}

    settled = {}
    if chance.random() < 0.3:
        for number in chance.sample((1, 2, 3), chance.randint(1, 3)):
            until = chance.choice((9, 19, 14, 39))
            settled[incarnation(number)] = Settlement(until, chance.randint(0, 5), some(NAMES, 2))
    return Commit(some(NAMES, 2), some(KEYS, 3), settled)


def three_of(seed: int) -> tuple[KeyedHistory, KeyedHistory, KeyedHistory]:
    """Three histories. To draw each number of them from hypothesis would take most of the time of the tests."""
    chance = Random(seed)
    one, two, three = (
        KeyedHistory(incarnation(number), [a_commit(chance) for _ in range(chance.randint(1, 5))])
        for number in (1, 2, 3)
    )
    return one, two, three


three = st.integers(0, 2**32).map(three_of)


class Model:
    """What a replica with a digest holds, computed from the histories."""

    def __init__(self, histories: Iterable[KeyedHistory], digest: Digest) -> None:
        self.known = [one.delta(0, digest[one.incarnation]) for one in histories if digest.get(one.incarnation)]
        of = dict[bytes, list[Settlement]]()
        for delta in self.known:
            for column, one in (delta.keyed or Keyed()).settled.items():
                of.setdefault(column, []).append(one)
        self.settled = {column: _counting(ones) for column, ones in of.items()}

    def covers(self) -> dict[bytes, set[tuple[int, int]]]:
        """By column, up to which time and which version each settler has settled it."""
        found = dict[bytes, set[tuple[int, int]]]()
        for delta in self.known:
            for column, one in (delta.keyed or Keyed()).settled.items():
                found.setdefault(column, set()).add((one.until, one.version))
        return found

    def live(self) -> dict[str, dict[bytes, tuple[int, int]]]:
        """By key and holder, the entries that no settlement covers."""
        found = dict[str, dict[bytes, tuple[int, int]]]()
        for delta in self.known:
            covers = self.covers().get(delta.incarnation, set())
            for key, entry in (delta.keyed or Keyed()).entries.items():
                time = time_of(split(key)[0])
                assert time is not None
                if not any(time <= until and entry[1] <= version for until, version in covers):
                    found.setdefault(key, {})[delta.incarnation] = entry
        return found

    def best(self) -> dict[str, Entry]:
        """The same as a replica keeps it."""
        made = {}
        for key, of in self.live().items():
            first, *rest = [Entry(who, *of[who]) for who in sorted(of, key=lambda who, of=of: (-of[who][0], who))]  # type: ignore[misc]
            made[key] = Entry(first.holder, first.total, first.version, tuple(rest))
        return made

    def value(self, name: str) -> int:
        cells = sum(delta.cells.get(name, 0) for delta in self.known)
        parts = sum(parts.get(name, 0) for parts in self.settled.values())
        ids = [max(n for n, _ in of.values()) for key, of in self.live().items() if split(key)[1] == name]
        return cells + parts + sum(ids)


def _counting(ones: Sequence[Settlement]) -> dict[str, int]:
    """By name, the greatest part of the settlements of one column that no other one contains."""
    parts = dict[str, int]()
    for one in ones:
        contained = any(
            other.until >= one.until
            and other.version >= one.version
            and (other.until, other.version) != (one.until, one.version)
            for other in ones
        )
        for name, n in one.parts.items() if not contained else ():
            parts[name] = max(n, parts.get(name, 0))
    return parts


def assert_is_what_the_model_says(counters: Counters, histories: Sequence[KeyedHistory]) -> None:
    model = Model(histories, counters.digest())
    assert dict(counters.entries.items()) == model.best()
    assert counters.entries.live == len(model.best())
    for one in histories:
        held = sum(one.incarnation in of for of in model.live().values())
        assert counters.entries.count([one.incarnation]) == held
    for who, pairs in model.covers().items():
        kept = counters.settlements.covers[who]
        assert pairs.issuperset(kept)
        assert all(any(until <= u and version <= v for u, v in kept) for until, version in pairs)
    assert counters.settlements.covers.keys() == model.covers().keys()
    for name in NAMES:
        assert counters.total(name) == model.value(name)
        assert counters.keyed(name) == model.value(name) - sum(counters.cells(name).values())
        parts = {who: n for who, parts in model.settled.items() if (n := parts.get(name, 0))}
        assert counters.parts(name) == parts
        changed = counters.changed(name)
        for key, of in model.live().items():
            if split(key)[1] == name:
                assert all(changed[who] >= version for who, (_, version) in of.items())


def told(counters: Counters, who: bytes, after: int) -> Delta | None:
    """All pieces of what is newer as one delta."""
    whole: Delta | None = None
    for piece in counters.newer(who, after)[1]:
        keyed = Keyed()
        for one in (whole, piece):
            if one is not None and one.keyed is not None:
                keyed.merge(one.keyed)
        cells = {**(whole.cells if whole else {}), **piece.cells}
        whole = Delta(piece.incarnation, piece.after, piece.upto, cells, keyed or None)
    return whole


def learn(counters: Counters, other: Counters) -> Counters:
    """Bring one replica all that another one has."""
    for who, version in other.digest().items():
        if version > counters.version(who):
            delta = told(other, who, counters.version(who))
            assert delta is not None
            counters.join(delta)
    return counters
