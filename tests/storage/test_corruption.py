"""What a corruption says is true: it begins where the first byte is that can't be trusted, and costs what is gone."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.storage.inspect.corruption import DAMAGED_SUFFIX, Corruption, Segment
from gcount.storage.inspect.survey import survey
from gcount.storage.log import segment_name, sequence_of
from tests.storage.commit_store import contents
from tests.storage.written import Written, write


def flip(made: Written, name: str, at: int) -> None:
    data = bytearray(made.disk.read(name))
    data[at] ^= 1 << at % 8
    made.disk.poke(name, bytes(data))


@given(st.integers(0, 40), st.integers(0, 2**32))
@settings(max_examples=60)
def test_of_one_flipped_bit_it_names_the_batch_that_is_lost_and_no_other(seed: int, draw: int) -> None:
    made = write(seed, 25, 300)
    number = Random(draw).choice(list(made.places))
    name, begin, end = made.places[number]
    flip(made, name, Random(draw).randrange(begin, end))
    found = survey(made.disk)
    if number == len(made.batches):
        assert (found.corruptions, found.torn and found.torn.offset) == ([], begin), "the newest one may be torn"
        return
    (corruption,) = found.corruptions
    assert (corruption.file, corruption.offset, corruption.lost) == (name, begin, 1)
    assert found.whole == len(made.batches) - 1
    made.check_kept(found.replica, [other for other in made.places if other != number])


@given(st.integers(0, 40), st.sets(st.integers(0, 24), min_size=2, max_size=6))
@settings(max_examples=40)
def test_of_much_that_is_lost_each_corruption_counts_its_own(seed: int, numbers: set[int]) -> None:
    made = write(seed, 25, 300)
    hit = {number for number in made.places if number - 1 in numbers and number < len(made.batches)}
    for number in hit:
        name, begin, _ = made.places[number]
        flip(made, name, begin)
    corruptions = survey(made.disk).corruptions
    assert [corruption.file for corruption in corruptions] == sorted({made.places[number][0] for number in hit})
    for corruption in corruptions:
        lost = [number for number in hit if made.places[number][0] == corruption.file]
        assert corruption.offset == min(made.places[number][1] for number in lost)
        assert corruption.lost == len(lost)


def test_the_name_of_what_was_damaged_is_the_name_of_no_segment() -> None:
    """No start reads it, and no new segment gets its name."""
    for name in (segment_name(1) + DAMAGED_SUFFIX, f"{segment_name(1)}{DAMAGED_SUFFIX}-2"):
        assert sequence_of(name) is None


@pytest.mark.parametrize("torn", [False, True])
def test_a_segment_that_only_ends_in_a_torn_write_has_no_flaw(torn: bool) -> None:
    made = write(3, 10, 10_000)
    name = segment_name(1)
    if torn:
        made.disk.poke(name, contents(made.disk)[name][:-1])
    (segment,) = survey(made.disk).segments
    assert isinstance(segment, Segment)
    assert segment.corruption is None
    assert isinstance(segment.torn, Corruption) is torn
    assert segment.whole == len(made.batches) - torn
