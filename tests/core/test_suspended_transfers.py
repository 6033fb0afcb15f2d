"""What is kept of transfers whose links were lost: for one link of the same life, and never more than the limits."""

from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.chunks import Assembly
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.suspended_transfers import KEEP, SuspendedTransfers
from gcount.core.state.counters import Delta, highest
from tests.core.histories import incarnation

NODE, BOOT = b"n" * 16, b"b" * 16
MOST, MOST_CELLS = 3, 10


def assembly(transfer: int, cells: int = 1) -> Assembly:
    made = Assembly(transfer)
    made.add([Delta(incarnation(1), 0, transfer, {f"{transfer}-{n}": 1 for n in range(cells)})])
    return made


def test_a_suspended_transfer_is_for_the_same_process_of_the_same_node_and_for_one_link() -> None:
    kept, one = SuspendedTransfers(100), assembly(7)
    kept.keep(NODE, BOOT, one, 0.0)
    for node, start_id, transfer in [(b"o" * 16, BOOT, 7), (NODE, b"o" * 16, 7), (NODE, BOOT, 8)]:
        assert kept.take(node, start_id, transfer, 0.0) is None
    assert kept.take(NODE, BOOT, 7, 0.0) is one
    assert kept.take(NODE, BOOT, 7, 0.0) is None


def test_another_process_of_a_node_drops_the_transfers_of_former_ones() -> None:
    kept = SuspendedTransfers(100)
    for transfer, start_id in enumerate([BOOT, b"1" * 16, b"2" * 16], 1):
        kept.keep(NODE, start_id, assembly(transfer), 0.0)
    kept.keep(b"o" * 16, b"1" * 16, assembly(4), 0.0)
    kept.said_hello(NODE, BOOT)
    assert [kept.take(NODE, start_id, 2, 0.0) for start_id in (BOOT, b"1" * 16)] == [None, None]
    assert len(kept) == 2
    assert highest(kept, {incarnation(1)}) == {incarnation(1): 4}


def test_suspended_transfers_are_bounded_in_time_number_and_cells_and_the_oldest_is_dropped_first() -> None:
    kept = SuspendedTransfers(100)
    kept.keep(NODE, BOOT, assembly(1), 0.0)
    kept.expire(KEEP - 0.1)
    assert len(kept) == 1
    assert kept.take(NODE, BOOT, 1, KEEP) is None
    assert len(kept) == 0
    for transfer in range(1, DEFAULTS.max_suspended + 2):
        kept.keep(NODE, BOOT, assembly(transfer, cells=0), 0.0)
    assert len(kept) == DEFAULTS.max_suspended
    assert kept.take(NODE, BOOT, 1, 0.0) is None
    for transfer in range(1000, 1012):
        kept.keep(NODE, BOOT, assembly(transfer, cells=10), 0.0)
    assert (len(kept), kept.cells) == (10, 100)
    assert kept.take(NODE, BOOT, 1001, 0.0) is None
    kept.keep(NODE, BOOT, assembly(1011, cells=20), 0.0)
    assert kept.cells == 100
    kept.clear()
    assert (len(kept), kept.cells) == (0, 0)


Kept = tuple[bytes, bytes, int, int, float]
"""Node, start, transfer, cells, and when it goes."""

steps = st.one_of(
    st.tuples(st.just("keep"), st.sampled_from(b"AB"), st.sampled_from(b"12"), st.integers(1, 6), st.integers(0, 6)),
    st.tuples(st.just("take"), st.sampled_from(b"AB"), st.sampled_from(b"12"), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("met"), st.sampled_from(b"AB"), st.sampled_from(b"12"), st.just(0), st.just(0)),
    st.tuples(st.just("shrink"), st.just(0), st.just(0), st.just(0), st.integers(0, 12)),
    st.tuples(st.just("wait"), st.just(0), st.just(0), st.just(0), st.integers(1, 50)),
)


def shrunk(model: list[Kept], cells: int) -> list[Kept]:
    while sum(entry[3] for entry in model) > cells:
        model = model[1:]
    return model


@given(st.lists(steps, max_size=30))
def test_suspended_transfers_are_those_of_a_naive_model(made: list[tuple[str, int, int, int, int]]) -> None:
    kept, model, now = SuspendedTransfers(MOST_CELLS, Options(max_suspended=MOST)), list[Kept](), 0.0
    for kind, node_, start_, transfer, number in made:
        node, start_id = bytes([node_]) * 16, bytes([start_]) * 16
        if kind in ("keep", "take"):
            model = [entry for entry in model if entry[4] > now]
        match kind:
            case "wait":
                now += number
            case "keep":
                kept.keep(node, start_id, assembly(transfer, cells=number), now)
                model = [entry for entry in model if entry[2] != transfer]
                model = shrunk([*model, (node, start_id, transfer, number, now + KEEP)][-MOST:], MOST_CELLS)
            case "take":
                taken = kept.take(node, start_id, transfer, now)
                there = [entry for entry in model if entry[:3] == (node, start_id, transfer)]
                assert (taken is not None) == bool(there)
                assert taken is None or (taken.transfer, taken.cells) == (transfer, there[0][3])
                model = [entry for entry in model if entry not in there]
            case "met":
                kept.said_hello(node, start_id)
                model = [entry for entry in model if entry[0] != node or entry[1] == start_id]
            case "shrink":
                kept.shrink(number)
                model = shrunk(model, number)
        assert len(kept) == len(model) <= MOST
        assert kept.cells == sum(entry[3] for entry in model) <= MOST_CELLS
        assert kept.biggest == max((entry[3] for entry in model), default=0)
