"""Real histories of single-writer incarnations: what any delta in a cluster is cut from."""

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st
from msgspec.structs import replace

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.keyed import Keyed

# Small columns are dense; so that all of it is proved of the other form, too, a few cells give it in the second one.
FORMS = (Options(column_span=1), Options(column_small=0, column_span=1))
forms_of_columns = st.sampled_from(FORMS)

NAMES = ("a", "b", "c", "d", "é" * 9, "f")


def incarnation(number: int) -> bytes:
    return bytes([number]) * 16


@dataclass(frozen=True)
class History:
    """All commits of one incarnation: what each added to which counter."""

    incarnation: bytes
    commits: list[dict[str, int]]

    def state(self, version: int) -> dict[str, int]:
        cells: dict[str, int] = {}
        for commit in self.commits[:version]:
            for name, amount in commit.items():
                cells[name] = cells.get(name, 0) + amount
        return cells

    def delta(self, after: int, upto: int) -> Delta:
        changed = {name for commit in self.commits[after:upto] for name in commit}
        state = self.state(upto)
        return Delta(self.incarnation, after, upto, {name: state[name] for name in sorted(changed)})


def a_commit(max_amount: int = 2**40) -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(st.sampled_from(NAMES), st.integers(1, max_amount), min_size=1, max_size=4)


def histories(number: int, max_commits: int = 8) -> st.SearchStrategy[History]:
    commits = st.lists(a_commit(), min_size=1, max_size=max_commits)
    return commits.map(lambda made: History(incarnation(number), made))


three_histories = st.tuples(histories(1), histories(2), histories(3))


def knowing(known: Iterable[tuple[History, int]], options: Options = DEFAULTS) -> Counters:
    """A replica that knows each history up to a version, commit by commit."""
    counters = Counters(options)
    for history, upto in known:
        for version in range(upto):
            counters.join(history.delta(version, version + 1))
    return counters


def newer(counters: Counters, incarnation: bytes, after: int) -> Delta | None:
    """All of one incarnation that changed after a version, or None when nothing did."""
    whole, keyed = None, Keyed()
    for piece in counters.newer(incarnation, after)[1]:
        if whole is None:
            whole = piece
        whole.cells.update(piece.cells)
        if piece.keyed is not None:
            keyed.merge(piece.keyed)
    return whole if whole is None or not keyed else replace(whole, keyed=keyed)


def newer_than(counters: Counters, digest: Digest) -> list[Delta]:
    """All that somebody with that digest lacks."""
    deltas = (newer(counters, incarnation, digest.get(incarnation, 0)) for incarnation in counters.digest())
    return [delta for delta in deltas if delta is not None]


def join(into: Counters, other: Counters) -> Counters:
    """Bring one replica all that another one has, as an exchange of digests does."""
    for delta in newer_than(other, into.digest()):
        into.join(delta)
    return into
