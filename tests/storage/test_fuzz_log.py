"""Logs fuzzed: whatever the files hold, a start refuses with file and offset, or recovers only what was written."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random
from zlib import crc32

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcount.core.format.frames import MARK
from gcount.core.format.log_records import Header, encode_batch
from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.errors import LogDamaged
from gcount.storage.log import segment_name
from tests.fakes.disk import SimDisk
from tests.fakes.process import run_simulated
from tests.storage.commit_store import ME, contents, filled, opened, replayed, sim_disk

FUZZ = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MEGABYTE = 1 << 20
Change = Callable[[dict[str, bytes]], None]

places = st.floats(0, 1, exclude_max=True)
junk = st.binary(max_size=80) | st.sampled_from([bytes(4096), MARK, MARK * 50, MARK + b"\xff" * 8, b"gcount\r\n"])
odd_names = st.sampled_from(
    [segment_name(number) for number in (0, 1, 2, 3, 4, 9, 10**8)]
    + ["x.log", ".log", "1.log", "00000001.log.new", "lock", "notes"]
)


def frame(payload: bytes) -> bytes:
    """One whose length and checksum are right, whatever it holds."""
    length = len(payload).to_bytes(4, "little")
    return MARK + length + crc32(payload, crc32(length)).to_bytes(4, "little") + payload


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """What happened to the files of a directory."""
    kind = draw(
        st.sampled_from(["cut", "insert", "overwrite", "repeat", "exchange", "remove", "add", "replace", "move"])
    )
    which, begin, size, bytes_, name = draw(st.tuples(places, places, places, junk, odd_names))

    def change(files: dict[str, bytes]) -> None:
        if kind == "add":
            files[name] = bytes_
        if not files or kind == "add":
            return
        names = sorted(files)
        file = names[int(which * len(names))]
        data = files[file]
        at = int(begin * len(data))
        end = at + int(size * (len(data) - at))
        match kind:
            case "cut":
                files[file] = data[:at] + data[end:] if which < 0.5 else data[:at]
            case "insert":
                files[file] = data[:at] + bytes_ + data[at:]
            case "overwrite":
                files[file] = data[:at] + bytes_ + data[at + len(bytes_) :]
            case "repeat":
                files[file] = data[:end] + data[at:end] + data[end:]
            case "exchange":
                other = names[int(begin * len(names))]
                files[file], files[other] = files[other], data
            case "remove":
                del files[file]
            case "replace":
                files[file] = bytes_
            case "move":
                files[name] = files.pop(file)

    return change


def put(disk: SimDisk, files: dict[str, bytes]) -> None:
    for name in disk.names():
        if name not in files:
            disk.remove(name)
    for name, data in files.items():
        if name not in disk.names():
            disk.create(name).close()
        disk.poke(name, data)


async def refused_or_found(disk: SimDisk) -> list[Batch] | None:
    """What a start finds; None when it refuses, having changed nothing. Anything else is raised."""
    before = contents(disk)
    try:
        log, found, _ = await opened(disk)
    except LogDamaged:
        assert contents(disk) == before
        return None
    log.close()
    return found


def normal(batches: list[Batch]) -> list[tuple[int, list[Delta]]]:
    return [(batch.number, batch.deltas) for batch in batches]


@given(
    st.integers(0, 40),
    st.integers(1, 9),
    st.sampled_from([200, 400, 2000]),
    st.lists(changes(), min_size=1, max_size=4),
)
@FUZZ
def test_a_mutated_log_is_refused_or_yields_a_first_part_of_what_was_written(
    count: int, size: int, segment: int, changed: list[Change]
) -> None:
    async def run() -> None:
        disk = sim_disk()
        made = await filled(disk, count, size, Options(segment_bytes=segment))
        files = contents(disk)
        for change in changed:
            change(files)
        put(disk, files)
        found = await refused_or_found(disk)
        if found is not None:
            assert normal(found) == normal(made[: len(found)])
            again = await refused_or_found(disk)
            assert again is not None
            assert normal(again) == normal(found)

    run_simulated(run)


@given(st.dictionaries(odd_names, st.binary(max_size=300) | junk, max_size=4))
@FUZZ
def test_a_directory_of_any_bytes_is_refused_or_empty(files: dict[str, bytes]) -> None:
    async def run() -> None:
        disk = sim_disk()
        put(disk, files)
        assert not await refused_or_found(disk)

    run_simulated(run)


ids = st.just(ME.incarnation) | st.binary(max_size=20)
numbers = st.integers(-2, 5) | st.sampled_from([2**62, 2**63, 2**64 - 1, -(2**63)])
deltas = st.tuples(ids, numbers, numbers, st.dictionaries(st.text(max_size=5), numbers, max_size=3))
identities = st.none() | st.tuples(ids, ids, st.lists(ids, max_size=2))
memberships = st.none() | st.tuples(numbers, st.lists(st.text(max_size=9), max_size=3))
parts = st.tuples(numbers, numbers, numbers, st.lists(deltas, max_size=3), identities, memberships)
payloads = parts.map(msgspec.msgpack.encode) | st.binary(max_size=60)


@given(st.lists(payloads, min_size=1, max_size=5))
@FUZZ
def test_records_of_any_content_with_good_checksums_never_end_a_start_in_another_way(made: list[bytes]) -> None:
    """No disk makes them up; but a start that can't go on has to say so."""

    async def run() -> None:
        disk = sim_disk()
        await filled(disk, 2)
        file = segment_name(1)
        disk.poke(file, disk.read(file) + b"".join(map(frame, made)))
        try:
            _, log = await replayed(disk)
        except LogDamaged:
            return
        log.close()

    run_simulated(run)


HEADER = Header(ME.node, ME.incarnation, 1, 1).encode()
BOMBS = {
    "a claim of 4 GB": MARK + b"\xff" * 8,
    "a claim of all that is allowed": MARK + MEGABYTE.to_bytes(4, "little") + bytes(4),
    "an array of 4 billion": frame(b"\xdd\xff\xff\xff\xff"),
    "a map of 4 billion": frame(b"\x96\x01\x01\x01\x91\x94\xc4\x10" + ME.incarnation + b"\x00\x01\xdf\xff\xff\xff\xff"),
    "a string of 4 GB": frame(b"\x96\x01\x01\x01\x91\x94\xc6\xff\xff\xff\xff"),
    "deep arrays": frame(b"\x91" * 500_000),
    "nothing": bytes(MEGABYTE),
    "noise": Random(1).randbytes(MEGABYTE),
    "parts without end": b"".join(
        frame(msgspec.msgpack.encode((1, part, 2**62, [(ME.incarnation, 0, 1, {})], None, None)))
        for part in range(1, 5000)
    ),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_what_a_file_claims_costs_no_more_memory_than_the_file(bomb: bytes) -> None:
    async def run() -> None:
        disk = sim_disk()
        disk.create(segment_name(1)).close()
        disk.poke(segment_name(1), HEADER + bomb)
        tracemalloc.start()
        try:
            await refused_or_found(disk)
            assert tracemalloc.get_traced_memory()[1] < 16 * MEGABYTE
        finally:
            tracemalloc.stop()

    run_simulated(run)


def test_a_batch_of_many_deltas_without_cells_is_written_so_that_it_can_be_read() -> None:
    """Peers decide of how many deltas a batch is."""
    many = [Delta(ME.incarnation, 0, upto, {}) for upto in range(1, 60_000)]

    async def run() -> None:
        disk = sim_disk()
        disk.create(segment_name(1)).close()
        disk.poke(segment_name(1), HEADER + encode_batch(Batch(1, many)))
        found = await refused_or_found(disk)
        assert found
        assert found[0].deltas == many

    run_simulated(run)
