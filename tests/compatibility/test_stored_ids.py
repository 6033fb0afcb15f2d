"""Increments with ids as they were recorded: today's code reads them, writes the same bytes, and counts none twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility.names import TODAY, NobodyThere, increment_once, open_seeded
from tests.compatibility.observe import gcount, node_on, target
from tests.compatibility.samples import FRESH, HEADER, Made
from tests.compatibility.samples_of_ids import BATCHES, BIG_BATCH, HISTORY, MESSAGES
from tests.harness.cluster import running, values_are

HERE = Path(__file__).parent / "ids"
RECORDS: dict[str, Any] = json.loads((HERE / "records.json").read_text("utf-8"))
STORED: dict[str, Any] = json.loads((HERE / "directory.json").read_text("utf-8"))
ACKNOWLEDGED: dict[str, int] = STORED["acknowledged"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(HERE / "directory", tmp_path / "data")


def read_alone(sample: Made, data: bytes) -> Any:
    """The batch that a segment holds in which nothing else is."""
    header = TODAY.build(Made("Header", {**HEADER.fields, "first_batch": sample.fields["number"]}))
    [batch] = TODAY.read_segment(TODAY.encode_header(header, False) + data)[1]
    return batch


@pytest.mark.parametrize("label", BATCHES)
def test_a_batch_is_encoded_to_the_bytes_that_were_recorded_and_read(label: str) -> None:
    batch, recorded = TODAY.build(BATCHES[label]), bytes.fromhex(RECORDS["batches"][label])
    assert TODAY.encode_batch(batch) == recorded
    assert read_alone(BATCHES[label], recorded) == batch


def test_a_batch_of_many_frames_is_encoded_to_the_bytes_that_were_recorded_and_read() -> None:
    data = TODAY.encode_batch(TODAY.build(BIG_BATCH))
    assert hashlib.sha256(data).hexdigest() == RECORDS["sha256 of the big batch"]
    assert read_alone(BIG_BATCH, data) == TODAY.build(BIG_BATCH)


@pytest.mark.parametrize("kind", ["segment", "checkpoint"])
def test_a_header_is_encoded_to_the_bytes_that_were_recorded(kind: str) -> None:
    assert TODAY.encode_header(TODAY.build(HEADER), kind == "checkpoint").hex() == RECORDS[f"{kind} header"]


def test_the_checkpoint_of_a_known_history_has_the_bytes_that_were_recorded_and_is_read() -> None:
    """Ids of several holders, settled ones, a floor, and ids behind a gap."""
    replica = TODAY.replay(TODAY.build(FRESH), map(TODAY.build, HISTORY))
    recorded = bytes.fromhex(RECORDS["checkpoint"])
    assert TODAY.write_checkpoint(replica, TODAY.build(HEADER)) == recorded
    header, again = TODAY.read_checkpoint(recorded)
    assert (header, again.floor) == (TODAY.build(HEADER), replica.floor)
    assert (again.counters, again.detached.deltas()) == (replica.counters, replica.detached.deltas())


@pytest.mark.parametrize("label", MESSAGES)
def test_a_message_is_encoded_to_the_bytes_that_were_recorded_and_read(label: str) -> None:
    message, recorded = TODAY.build(MESSAGES[label]), bytes.fromhex(RECORDS["messages"][label])
    assert TODAY.encode(message) == recorded
    assert TODAY.decode(recorded) == message


def test_a_stored_segment_is_written_with_the_same_bytes_again() -> None:
    for file in (HERE / "directory").glob("*.log"):
        header, batches = TODAY.read_segment(file.read_bytes())
        assert batches
        written = TODAY.encode_header(header, False) + b"".join(map(TODAY.encode_batch, batches))
        assert written == file.read_bytes()


def test_a_stored_checkpoint_holds_the_same_when_it_is_written_again() -> None:
    """Ids have no order in it."""
    (file,) = (HERE / "directory").glob("*.checkpoint")
    header, replica = TODAY.read_checkpoint(file.read_bytes())
    again = TODAY.read_checkpoint(TODAY.write_checkpoint(replica, header))[1]
    assert (again.counters, again.floor, again.next_batch) == (replica.counters, replica.floor, replica.next_batch)
    assert replica.counters.entries.live > 0
    assert replica.counters.settlements
    assert replica.floor


async def test_a_node_starts_on_a_stored_directory_and_has_counted_each_id_once(copy: Path) -> None:
    verified = gcount("verify", copy)
    assert (verified.returncode, verified.stdout.splitlines()[1:]) == (0, STORED["verified"])
    node = node_on(copy)
    name, id_, total = STORED["source"]
    async with running(node):
        await values_are([node], {target(name): n for name, n in ACKNOWLEDGED.items()}, within=0)
        assert (await node.get(f"/counter/{name}/sources/{id_}")).number() == total
    node.kill9()
    assert gcount("verify", copy).returncode == 0


async def test_a_stored_id_that_is_sent_again_changes_nothing(copy: Path) -> None:
    """At the time at which it was recorded."""
    async with open_seeded(copy, 1, NobodyThere(), STORED["now"] + 60) as node:
        for name, (id_, amount) in STORED["live"].items():
            assert await increment_once(node, name, id_, amount) == (ACKNOWLEDGED[name], True)
        assert await increment_once(node, "a", f"{STORED['now']}-new", 1) == (ACKNOWLEDGED["a"] + 1, False)
