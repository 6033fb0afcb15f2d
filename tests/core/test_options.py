"""Options: what a node in production works with, and that no two of them contradict each other."""

from dataclasses import FrozenInstanceError, fields, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.frames import FRAME_HEAD_BYTES
from gcount.core.limits import MAX_FRAME_BYTES, MAX_INCARNATIONS, MAX_MESSAGE_BYTES
from gcount.core.options import DEFAULTS, Options
from tests.simulation.campaign.limits import draw_limits
from tests.simulation.campaign.sizes import SMALL, draw_files, draw_sizes

CONTRADICTIONS = [
    ({"column_recent_least": DEFAULTS.column_recent_most + 1}, "column_recent_least <="),
    ({"reborn_below": MAX_INCARNATIONS}, "reborn_below <"),
    ({"max_incarnations": MAX_INCARNATIONS + 1}, f"max_incarnations <= {MAX_INCARNATIONS}"),
    ({"max_unclaimed": MAX_INCARNATIONS + 1}, "max_unclaimed <="),
    ({"push_cells": DEFAULTS.max_uncounted_cells + 1}, "push_cells <="),
    ({"push_bytes": MAX_MESSAGE_BYTES}, "push_bytes fit into a message"),
    ({"frame_bytes": MAX_FRAME_BYTES}, "frame_bytes fit into a frame"),
    ({"record_names": MAX_FRAME_BYTES // 256}, "record_names fit into a frame"),
    ({"record_cells": MAX_FRAME_BYTES // 24}, "record_cells fit into a frame"),
    ({"checkpoint_write_bytes": DEFAULTS.checkpoint_sync_bytes + 1}, "checkpoint_write_bytes <="),
    *(({name: 0}, f"{name} >= 1") for name in ("segment_bytes", "push_bytes", "column_piece")),
]


@pytest.mark.parametrize(("changes", "rule"), CONTRADICTIONS, ids=[rule for _, rule in CONTRADICTIONS])
def test_contradicting_options_are_refused_with_the_rule(changes: dict[str, int], rule: str) -> None:
    with pytest.raises(ValueError, match="contradict each other") as caught:
        Options(**changes)
    assert rule in str(caught.value)


def test_all_contradictions_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"push_bytes fit .*; .*segment_bytes >= 1"):
        Options(push_bytes=MAX_MESSAGE_BYTES, segment_bytes=0)


@given(st.integers(0, 2**32), st.booleans())
def test_the_options_of_any_simulation_seed_are_consistent(seed: int, few_lives: bool) -> None:
    random = Random(seed)
    drawn, counters = draw_limits(seed, draw_sizes(random, draw_files(random, SMALL)), few_lives=few_lives)
    assert drawn == replace(drawn)
    assert min(counters) >= 3


def test_a_whole_record_of_a_checkpoint_is_no_larger_than_what_a_reader_waits_for() -> None:
    assert DEFAULTS.record_bytes == FRAME_HEAD_BYTES + MAX_FRAME_BYTES


def test_options_are_equal_by_what_they_say_and_never_change() -> None:
    assert Options() == DEFAULTS
    assert hash(Options()) == hash(DEFAULTS)
    with pytest.raises(FrozenInstanceError):
        DEFAULTS.push_bytes = 1  # type: ignore[misc]


def test_each_option_says_what_it_is() -> None:
    text = Options.__doc__ or ""
    assert [field.name for field in fields(Options) if f" {field.name}: " not in text] == []
