"""The live segment: a name only for what is durable, nothing behind the last batch, and never another file's place."""

import pytest

from gcount.errors import DiskFailed, NotInPlace
from gcount.storage.live_segment import UNFINISHED, LiveSegment
from tests.fakes.disk import SimDisk
from tests.storage.commit_store import sim_disk


def live(disk: SimDisk) -> LiveSegment:
    segment = LiveSegment(disk)
    segment.put("1.log", b"head")
    return segment


def test_a_segment_gets_its_name_when_its_content_is_durable_and_is_appended_to() -> None:
    disk = sim_disk()
    segment = live(disk)
    segment.append(b"batch")
    disk.crash()
    assert (disk.names(), disk.read("1.log"), segment.size) == (["1.log"], b"headbatch", 9)


def test_without_space_for_a_batch_the_file_is_as_it_was() -> None:
    disk = sim_disk()
    segment = live(disk)
    disk.capacity = 6
    with pytest.raises(OSError, match="No space left"):
        segment.append(b"batch")
    assert (disk.read("1.log"), segment.size) == (b"head", 4)
    disk.capacity = 100
    segment.append(b"batch")
    assert disk.read("1.log") == b"headbatch"


def test_without_space_for_the_next_segment_the_one_before_stays_live() -> None:
    disk = sim_disk()
    segment = live(disk)
    disk.capacity = 6
    with pytest.raises(OSError, match="No space left"):
        segment.put("2.log", b"another head")
    assert disk.names() == ["1.log"]
    disk.capacity = 100
    segment.append(b"batch")
    assert disk.read("1.log") == b"headbatch"


def test_a_segment_that_is_not_in_its_place_is_no_log_any_more() -> None:
    disk = sim_disk()
    segment = live(disk)
    segment.look()
    disk.rename("1.log", "elsewhere")
    with pytest.raises(NotInPlace):
        segment.append(b"batch")
    with pytest.raises(NotInPlace):
        segment.look()


def test_a_closed_segment_takes_nothing() -> None:
    segment = LiveSegment(sim_disk())
    for closed in (segment, live(sim_disk())):
        closed.close()
        closed.close()
        with pytest.raises(DiskFailed, match="closed"):
            closed.append(b"batch")
        with pytest.raises(DiskFailed, match="closed"):
            closed.look()


def test_an_unfinished_file_has_another_name() -> None:
    disk, seen = sim_disk(), list[str]()
    disk.stepped = lambda operation, name: seen.append(name) if operation == "create" else None
    live(disk)
    assert seen == ["1.log" + UNFINISHED]
