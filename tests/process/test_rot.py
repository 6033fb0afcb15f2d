"""Rot on a real disk, with the real commands: a start is refused with one line; verify, repair and refilling work."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from gcount.version import VERSION
from tests.harness.cluster import configure, consistent_values_are, loopback_nodes, running, values_are
from tests.harness.processes import LAUNCHER, Node, clean_environment

HOST = "127.0.0.1"
COMMAND = LAUNCHER.parent / "gcount"


async def gcount(*arguments: object, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run `bin/gcount` with these arguments."""
    command = [str(COMMAND), *map(str, arguments)]
    with trio.fail_after(within):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env=clean_environment({})
        )
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def everything(folder: Path) -> dict[str, tuple[int, str]]:
    """All files with their times and contents."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def log_of(node: Node) -> Path:
    assert node.data_dir is not None
    (log,) = node.data_dir.glob("*.log")
    return log


def flip(path: Path, text: bytes) -> int:
    """Change one byte at the first occurrence of a text; returns its offset."""
    data = bytearray(path.read_bytes())
    at = data.index(text) + 2
    data[at] ^= 0x40
    path.write_bytes(data)
    return at


async def refused(node: Node) -> str:
    node.spawn()
    assert await node.exited(within=30) == 1, node.stderr()
    (line,) = node.lines()
    return line


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(1, HOST, 0, tmp_path / "data")


async def fill(node: Node, count: int = 20) -> None:
    for number in range(count):
        await node.add(f"counter-{number:02}", number + 1)


async def test_a_lone_node_is_refused_verified_repaired_and_counts_on(tmp_path: Path, node: Node) -> None:
    assert node.data_dir is not None
    folder, data = node.data_dir, str(node.data_dir)
    async with running(node):
        await fill(node)
        await node.stop()
        whole = await gcount("verify", folder)
        assert (whole.returncode, whole.stderr) == (0, "")
        assert re.search(r"counters +20\b", whole.stdout), whole.stdout

        log = log_of(node)
        at = flip(log, b"counter-07")
        line = await refused(node)
        assert str(log) in line
        assert re.search(rf"bin/gcount verify {re.escape(data)}\b.*bin/gcount repair {re.escape(data)}\b", line)
        offset = int(re.findall(r"at offset (\d+)", line)[0])
        assert at - 100 < offset <= at

        before = everything(folder)
        verified = await gcount("verify", folder)
        assert verified.returncode == 1
        assert f"{log} at offset {offset}: " in verified.stdout
        dry = await gcount("repair", folder)
        assert dry.returncode == 1
        assert f"{log} at offset {offset}: " in dry.stdout
        assert "keeps 19 batches and loses 1" in dry.stdout
        assert f"bin/gcount repair --write {data}" in dry.stdout
        assert everything(folder) == before

        rotten = log.read_bytes()
        done = await gcount("repair", "--write", folder)
        assert done.returncode == 0, done
        aside = folder / (log.name + ".damaged")
        assert str(aside) in done.stdout
        assert aside.read_bytes() == rotten
        assert (await gcount("verify", folder)).returncode == 0
        repaired = everything(folder)
        again = await gcount("repair", "--write", folder)
        assert (again.returncode, "nothing to repair" in again.stdout) == (0, True)
        assert everything(folder) == repaired

        await node.start()
        expected = {f"counter-{number:02}": 0 if number == 7 else number + 1 for number in range(20)}
        assert "if this node has no members, post one with itself alone" in node.stderr()
        await configure(node, [node])
        await values_are([node], expected, within=10)
        await node.add("counter-07", 100)
        await node.stop()
        await node.start()
        await values_are([node], expected | {"counter-07": 100}, within=10)


async def test_a_member_is_repaired_refilled_and_exact(tmp_path: Path) -> None:
    nodes = loopback_nodes(tmp_path, 3)
    one = nodes[0]
    async with running(*nodes, configured=True):
        await fill(one)
        await nodes[1].add("counter-03", 1000)
        expected = {f"counter-{number:02}": number + 1 for number in range(20)}
        expected["counter-03"] += 1000
        await values_are(nodes, expected, within=10)
        incarnation = (await one.get("/status")).json()["incarnation"]
        one.kill9()
        for name in (b"counter-03", b"counter-11", b"counter-12"):
            flip(log_of(one), name)
        assert "is damaged" in await refused(one)
        assert (await gcount("repair", "--write", one.data_dir)).returncode == 0
        await one.start()
        assert (await one.get("/status")).json()["incarnation"] != incarnation
        await one.add("counter-19", 5)
        expected["counter-19"] += 5
        await values_are(nodes, expected, within=15)
        await consistent_values_are(nodes, expected, within=15)


async def test_a_member_brings_back_increments_that_no_other_node_has(tmp_path: Path) -> None:
    """They were acknowledged, they are whole on its disk, but behind a record that has rotted."""
    nodes = loopback_nodes(tmp_path, 2)
    one, two = nodes
    async with running(*nodes, configured=True):
        await one.add("before", 1)
        await values_are(nodes, {"before": 1}, within=10)
        two.kill9()
        await one.add("rotten", 2)
        await one.add("behind", 4)
        one.kill9()
        flip(log_of(one), b"rotten")
        assert (await gcount("repair", "--write", one.data_dir)).returncode == 0
        await one.start()
        assert await one.value("behind") == 0
        await two.start()
        expected = {"before": 1, "rotten": 0, "behind": 4}
        await values_are(nodes, expected, within=15)
        await consistent_values_are(nodes, expected, within=15)


async def test_a_running_node_is_verified_without_a_trace_and_never_repaired(tmp_path: Path, node: Node) -> None:
    """Also while it writes: what is on its way to the disk is no damage."""
    assert node.data_dir is not None
    folder = node.data_dir
    async with running(node):
        await fill(node, 5)
        before = everything(folder)
        assert (await gcount("verify", folder)).returncode == 0
        for flags in ((), ("--write",)):
            answer = await gcount("repair", *flags, folder)
            assert answer.returncode == 1
            assert re.fullmatch(r"gcount: error: .*in use.*\n", answer.stderr), answer
        assert everything(folder) == before

        answers: list[subprocess.CompletedProcess[str]] = []

        async def write() -> None:
            while len(answers) < 4:
                await fill(node, 10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for _ in range(4):
                answers.append(await gcount("verify", folder))
        assert [answer.returncode for answer in answers] == [0] * 4, answers


def no_directory(folder: Path) -> None:
    pass


def an_empty_one(folder: Path) -> None:
    folder.mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("no directory")


def logs_of_others(folder: Path) -> None:
    folder.mkdir()
    (folder / "system.log").write_text("somebody else's")


@pytest.mark.parametrize("make", [no_directory, an_empty_one, a_file, logs_of_others])
async def test_a_folder_that_is_no_data_directory_is_refused_and_not_changed(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    folder = tmp_path / "some folder"
    make(folder)
    before = folder.exists(), everything(tmp_path)
    for arguments in (["verify"], ["repair"], ["repair", "--write"]):
        answer = await gcount(*arguments, folder)
        assert answer.returncode == 2
        assert re.fullmatch(r"gcount: error: .*\n", answer.stderr), answer
        assert answer.stdout == ""
    assert (folder.exists(), everything(tmp_path)) == before


async def test_bad_usage_ends_with_2_and_one_line_and_help_with_0() -> None:
    for bad in ([], ["nonsense"], ["verify"], ["repair"], ["verify", "--write", "x"], ["verify", "a", "b"]):
        answer = await gcount(*bad)
        assert answer.returncode == 2
        assert re.fullmatch(r"gcount: error: .+\n", answer.stderr), answer
    version = await gcount("--version")
    assert (version.returncode, version.stdout, version.stderr) == (0, f"gcount {VERSION}\n", "")
    for arguments in (["--help"], ["verify", "--help"], ["repair", "--help"]):
        answer = await gcount(*arguments)
        assert answer.returncode == 0
        assert "Usage: gcount" in answer.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
async def test_a_file_that_cannot_be_read_ends_with_2(tmp_path: Path, node: Node) -> None:
    assert node.data_dir is not None
    async with running(node):
        await fill(node, 1)
        await node.stop()
    log_of(node).chmod(0)
    answer = await gcount("verify", node.data_dir)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert str(log_of(node)) in answer.stderr
