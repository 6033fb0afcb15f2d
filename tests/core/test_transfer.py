"""A transfer brings all of its chunks, each once, over as many links as it takes; what is owed is given back."""

from collections.abc import Iterator
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from gcount.core.protocol.transfer import OFFER_PAUSE, OFFER_PAUSE_MOST, Owed, Transfer
from gcount.core.state.counters import Delta
from tests.core.histories import incarnation

WHO = incarnation(1)


def chunks(number: int) -> list[list[Delta]]:
    return [[Delta(WHO, 0, 9, {f"n{n}": 1})] for n in range(number)]


def ids() -> Iterator[int]:
    return count(7)


@given(st.integers(1, 8), st.data())
def test_all_chunks_arrive_in_their_order_and_none_twice_wherever_links_are_lost(
    number: int, data: st.DataObject
) -> None:
    """The peer keeps what has come, and says how much that is when the next link says hello."""
    made, drawn = chunks(number), ids()
    transfer, arrived, kept = Transfer({WHO: 9}, iter(made)), list[list[Delta]](), 0
    while True:
        last, chunk = transfer.next(drawn.__next__)
        assert last == (chunk == made[-1])
        fate = data.draw(st.sampled_from(["acknowledged", "lost on its way", "its answer is lost"]))
        if fate != "lost on its way":
            arrived.append(chunk)
            kept += 1
        if fate == "acknowledged":
            assert transfer.acked() == last
            if last:
                break
        elif last and fate == "its answer is lost":
            assert not transfer.goes_on({WHO: 9}, 0)  # the peer has it all
            break
        elif not transfer.goes_on({}, kept):
            assert kept == 0  # nothing arrived: a new transfer, of the state as it is then, serves as well
            return
    assert arrived == made
    assert transfer.id == (7 if number > 1 else 0)
    assert next(drawn) == (8 if number > 1 else 7)


@given(st.integers(2, 8), st.data())
def test_a_transfer_is_not_continued_if_the_peer_claims_what_it_can_not_have_kept(
    number: int, data: st.DataObject
) -> None:
    acknowledged = data.draw(st.integers(0, number - 1))
    transfer, drawn = Transfer({WHO: 9}, iter(chunks(number))), ids()
    for _ in range(acknowledged):
        transfer.next(drawn.__next__)
        transfer.acked()
    last, _ = transfer.next(drawn.__next__)
    kept = data.draw(st.integers(0, 2 * number))
    possible = {acknowledged} if last else {acknowledged, acknowledged + 1}
    assert transfer.goes_on({}, kept) == (kept in possible and kept > 0)


def test_the_chunk_that_is_under_way_is_sent_again_as_it_was() -> None:
    transfer, drawn = Transfer({WHO: 9}, iter(chunks(3))), ids()
    first = transfer.next(drawn.__next__)
    assert first == (False, chunks(3)[0])
    assert transfer.next(drawn.__next__) == first
    transfer.acked()
    assert transfer.next(drawn.__next__) == (False, chunks(3)[1])


def test_chunks_are_cut_only_when_they_are_sent_and_the_one_behind_for_the_mark_of_the_last() -> None:
    cut = list[int]()

    def cutting() -> Iterator[list[Delta]]:
        for number, chunk in enumerate(chunks(4)):
            cut.append(number)
            yield chunk

    transfer = Transfer({WHO: 9}, cutting())
    assert cut == []
    transfer.next(ids().__next__)
    assert cut == [0, 1]


RUNS = [Delta(incarnation(9), 10 * n, 10 * n + 5, {f"n{n}": n}) for n in range(1, 5)]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, len(RUNS)))
def test_each_delta_that_is_owed_is_offered_until_it_is_kept_and_no_other_waits_for_it(
    answers: list[bool], number: int
) -> None:
    owed, now, left = Owed(RUNS[:number], 0.0), 0.0, list(RUNS[:number])
    for kept in answers:
        delta = owed.next(now)
        if delta is None:
            assert not left
            break
        assert delta is left[0]
        owed.answered(delta, now, kept=kept)
        left = left[1:] if kept else [*left[1:], delta]
        assert bool(owed) == bool(left)
        if not kept:
            assert owed.next(now) is None
            now += OFFER_PAUSE_MOST


def test_the_pause_doubles_up_to_a_limit_until_something_is_kept_or_the_peer_may_keep_it_now() -> None:
    owed, now, pauses = Owed(RUNS, 0.0), 0.0, list[float]()
    for _ in range(9):
        delta = owed.next(now)
        assert delta is not None
        owed.answered(delta, now, kept=False)
        pause = OFFER_PAUSE
        while owed.next(now + pause) is None:
            pause *= 2
        assert owed.next(now + pause - 0.001) is None
        pauses.append(pause)
        now += pause
    assert pauses == [1, 2, 4, 8, 16, 32, *[OFFER_PAUSE_MOST] * 3]
    owed.answered(RUNS[0], now, kept=False)
    owed.offer_again()
    delta = owed.next(now)
    assert delta is not None
    owed.answered(delta, now, kept=False)
    assert owed.next(now + OFFER_PAUSE) is not None
