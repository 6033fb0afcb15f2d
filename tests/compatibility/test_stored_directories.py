"""Directories that nodes of commit bb4ef53 wrote until they were killed: today's go on.

They write the same bytes, but for the number of the format, and for fields behind those of that version (formerly.py).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility import formerly
from tests.compatibility.names import TODAY
from tests.compatibility.observe import gcount, node_on, observe
from tests.compatibility.samples import BATCHES, BIG_BATCH, FRESH, HEADER, HISTORY, Made, contents, write_seeded
from tests.harness.cluster import running

HERE = Path(__file__).parent
STORED = HERE / "directories"
RECORDS: dict[str, Any] = json.loads((HERE / "records.json").read_text("utf-8"))
STARTED = sorted(file.stem for file in STORED.glob("*.json"))
FILES = sorted(file for file in STORED.glob("*/*") if file.suffix in (".log", ".checkpoint"))
SEGMENTS = [file for file in FILES if file.suffix == ".log"]
CHECKPOINTS = [file for file in FILES if file.suffix == ".checkpoint"]


def named(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def test_the_stored_directories_have_all_that_they_need() -> None:
    assert STARTED == ["checkpoint", "log", "repaired", "repaired-checkpoint"]
    assert sorted({file.parent.name for file in CHECKPOINTS}) == ["checkpoint", "repaired-checkpoint", "seeded"]
    assert len(SEGMENTS) >= 6


@pytest.mark.parametrize("name", STARTED)
async def test_a_node_starts_on_a_stored_directory_and_answers_what_was_recorded(tmp_path: Path, name: str) -> None:
    """Values, consistent values, status, under which incarnation it goes on, and what it has once it is alone."""
    copy = tmp_path / "data"
    shutil.copytree(STORED / name, copy)
    recorded = json.loads((STORED / f"{name}.json").read_text("utf-8"))
    verified = gcount("verify", copy)
    assert verified.returncode == 0, verified
    node = node_on(copy)
    async with running(node):
        names = list(recorded["seen"]["values"])
        assert await observe(node, names, recorded["acknowledged"]) == recorded["seen"]
    node.kill9()
    verified = gcount("verify", copy)
    assert verified.returncode == 0, verified


@pytest.mark.parametrize("file", SEGMENTS, ids=named)
def test_a_stored_segment_is_written_with_the_same_bytes_again(file: Path) -> None:
    header, batches = TODAY.read_segment(file.read_bytes())
    assert batches
    written = TODAY.encode_header(header, False) + b"".join(map(TODAY.encode_batch, batches))
    assert formerly.file(written) == file.read_bytes()


@pytest.mark.parametrize("file", CHECKPOINTS, ids=named)
def test_a_stored_checkpoint_is_written_with_the_same_bytes_again(file: Path) -> None:
    header, replica = TODAY.read_checkpoint(file.read_bytes())
    assert formerly.file(TODAY.write_checkpoint(replica, header)) == file.read_bytes()


async def test_nodes_with_the_same_seeds_write_the_same_directory(tmp_path: Path) -> None:
    """Their ids come from the seeds; so every byte of log and checkpoint is known."""
    await write_seeded(TODAY, tmp_path)
    written = {name: formerly.file(data) for name, data in contents(tmp_path).items()}
    assert written == contents(STORED / "seeded")


@pytest.mark.parametrize("label", BATCHES)
def test_a_batch_is_encoded_to_the_bytes_that_were_recorded(label: str) -> None:
    assert formerly.batches(TODAY.encode_batch(TODAY.build(BATCHES[label]))).hex() == RECORDS["batches"][label]


@pytest.mark.parametrize("label", BATCHES)
def test_a_recorded_batch_is_read(label: str) -> None:
    data = bytes.fromhex(RECORDS["batches"][label])
    assert read_alone(BATCHES[label], data) == TODAY.build(BATCHES[label])


def test_a_batch_of_many_frames_is_encoded_to_the_bytes_that_were_recorded_and_read() -> None:
    data = TODAY.encode_batch(TODAY.build(BIG_BATCH))
    assert hashlib.sha256(formerly.batches(data)).hexdigest() == RECORDS["sha256 of the big batch"]
    assert read_alone(BIG_BATCH, data) == TODAY.build(BIG_BATCH)


@pytest.mark.parametrize("label", BATCHES)
def test_a_batch_in_a_segment_of_the_former_format_is_read(label: str) -> None:
    sample = BATCHES[label]
    head = formerly.header(TODAY.encode_header(header_before(sample), False))
    [batch] = TODAY.read_segment(head + bytes.fromhex(RECORDS["batches"][label]))[1]
    assert batch == TODAY.build(sample)


def header_before(sample: Made) -> Any:
    return TODAY.build(Made("Header", {**HEADER.fields, "first_batch": sample.fields["number"]}))


def read_alone(sample: Made, data: bytes) -> Any:
    """The batch that a segment holds in which nothing else is."""
    [batch] = TODAY.read_segment(TODAY.encode_header(header_before(sample), False) + data)[1]
    return batch


@pytest.mark.parametrize("kind", ["segment", "checkpoint"])
def test_a_header_is_encoded_to_the_bytes_that_were_recorded(kind: str) -> None:
    encoded = TODAY.encode_header(TODAY.build(HEADER), kind == "checkpoint")
    assert formerly.header(encoded).hex() == RECORDS[f"{kind} header"]


def test_the_checkpoint_of_a_known_history_has_the_bytes_that_were_recorded() -> None:
    """Dense and sparse columns, zeros, a membership, retired incarnations, and what is kept aside."""
    replica = TODAY.replay(TODAY.build(FRESH), map(TODAY.build, HISTORY))
    written = TODAY.write_checkpoint(replica, TODAY.build(HEADER))
    assert formerly.file(written).hex() == RECORDS["checkpoint"]
