"""Starting, stopping, and the messages of a start about a disk or a command line that it can't use."""

from __future__ import annotations

import random
import re
import signal
import socket
from pathlib import Path

import pytest
import trio

from tests.harness.cluster import consistent_values_are, free_port, loopback_nodes, running
from tests.harness.processes import LAUNCHER, Node

HOST = "127.0.0.1"


def one_node(base: Path, *flags: str, env: dict[str, str] | None = None) -> Node:
    return Node(1, HOST, 0, base / "data", flags=flags, env=env)


async def refuses(node: Node, code: int) -> str:
    """Start a node that must not start; returns its exit code, and the one line that it prints."""
    node.spawn()
    assert await node.exited(within=30) == code, node.stderr()
    assert len(node.lines()) == 1, node.stderr()
    return node.lines()[0]


async def test_port_0_prints_the_real_port_and_serves_there(tmp_path: Path) -> None:
    """What the ready line says can be used."""
    node = one_node(tmp_path)
    async with running(node):
        assert node.port != 0
        assert (await node.get("/ping")).body.strip() == b"pong"
        assert (await node.get("/health/ready")).status == 200
        assert (await node.get("/health/live")).status == 200
        assert (await node.get("/status")).json()["node"]
        assert (await node.get("/metrics")).status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_ends_a_node_with_0_and_it_keeps_all(tmp_path: Path, number: signal.Signals) -> None:
    """Also while a client stays connected."""
    node = one_node(tmp_path)
    async with running(node):
        client = node.client()
        assert (await client.request("POST", "/counter/x", b"5")).number() == 5
        assert await node.stop(number, within=3.0) == 0
        client.drop()
        await node.start()
        assert await node.value("x") == 5


async def test_flags_win_over_the_environment(tmp_path: Path) -> None:
    """GCOUNT_LISTEN and GCOUNT_DATA_DIR are read, and --listen and --data-dir take precedence."""
    one, other = free_port([HOST]), free_port([HOST])
    env = {"GCOUNT_LISTEN": f"{HOST}:{one}", "GCOUNT_DATA_DIR": str(tmp_path / "environment")}
    by_env = Node(1, HOST, one, None, listen=None, env=env, log_dir=tmp_path / "one")
    by_flag = Node(2, HOST, other, tmp_path / "flag", env=env, log_dir=tmp_path / "two")
    async with running(by_env, by_flag):
        assert (by_env.port, by_flag.port) == (one, other)
        assert any((tmp_path / "environment").iterdir())
        assert any((tmp_path / "flag").iterdir())


async def test_bad_flags_and_bad_environment_values_end_with_2_and_one_line(tmp_path: Path) -> None:
    """One clear line each, no usage page, no traceback."""
    bad: list[tuple[list[str], dict[str, str]]] = [
        (["--nonsense"], {}),
        (["--listen", "nowhere"], {}),
        (["--listen", f"{HOST}:99999"], {}),
        (["--log-format", "xml"], {}),
        (["--max-counters", "many"], {}),
        (["--data-dir"], {}),
        (["2", "3"], {}),
        ([], {"CHALLENGE_TIMEOUT": "0"}),
        ([], {"CHALLENGE_TIMEOUT": "1.5"}),
        ([], {"CHALLENGE_TIMEOUT": "soon"}),
        ([], {"GCOUNT_MAX_COUNTERS": "-1"}),
        ([], {"GCOUNT_LISTEN": "[::1"}),
    ]
    wrong: list[str] = []

    async def check(index: int, flags: list[str], env: dict[str, str], limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            listen = None if "GCOUNT_LISTEN" in env else ""
            node = Node(1, HOST, 0, tmp_path / str(index) / "data", listen=listen, flags=flags, env=env)
            node.spawn()
            try:
                code = await node.exited(within=30)
            finally:
                node.kill9()
            if code != 2 or len(node.lines()) != 1:
                wrong.append(f"{flags} {env}: exit {code}: {node.stderr()}")

    limiter = trio.CapacityLimiter(3)
    async with trio.open_nursery() as nursery:
        for index, (flags, env) in enumerate(bad):
            nursery.start_soon(check, index, flags, env, limiter)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("flag", ["--version", "--help"])
async def test_version_and_help_end_with_0(tmp_path: Path, flag: str) -> None:
    """And they start nothing."""
    node = Node(1, HOST, 0, tmp_path / "data", flags=[flag])
    node.spawn()
    try:
        assert await node.exited(within=30) == 0
    finally:
        node.kill9()
    assert not (tmp_path / "data").exists()


async def test_a_data_directory_in_use_ends_with_1_and_one_line(tmp_path: Path) -> None:
    """The line names the directory; the node that has it is not disturbed."""
    first = one_node(tmp_path)
    second = Node(2, HOST, 0, tmp_path / "data", log_dir=tmp_path / "second")
    async with running(first):
        try:
            line = await refuses(second, 1)
        finally:
            second.kill9()
        assert str(tmp_path / "data") in line
        assert await first.add("x", 1) == 1


WORDS = {
    "a file": "it is not a directory",
    "a link that leads nowhere": "it is a symbolic link that leads nowhere",
    "relative to what is gone": "the working directory, which it is relative to, is gone",
}


@pytest.mark.parametrize("kind", WORDS)
async def test_a_data_directory_that_cannot_be_one_ends_with_1_and_one_line(tmp_path: Path, kind: str) -> None:
    """The line says what it is; nothing is made, and there is no traceback."""
    directory, command = tmp_path / "data", [str(LAUNCHER), "--listen", f"{HOST}:0", "--data-dir"]
    if kind == "a file":
        directory.write_bytes(b"")
    elif kind == "a link that leads nowhere":
        directory.symlink_to("nowhere")
    else:
        directory = Path("data")
        (tmp_path / "gone").mkdir()
        command = ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(tmp_path / "gone"), *command]
    done = await trio.run_process([*command, str(directory)], capture_stderr=True, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.decode().splitlines() if not line.startswith("sh: ")]  # the launcher's shell
    assert len(lines) == 1, done.stderr
    assert str(directory) in lines[0]
    assert WORDS[kind] in lines[0]


async def test_a_taken_address_ends_with_1_and_one_line(tmp_path: Path) -> None:
    """The line names the address."""
    with socket.create_server((HOST, free_port([HOST]))) as taken:
        port = taken.getsockname()[1]
        node = Node(1, HOST, port, tmp_path / "data")
        try:
            line = await refuses(node, 1)
        finally:
            node.kill9()
        assert f"{HOST}:{port}" in line


async def test_20_times_killed_right_after_the_acknowledgement_nothing_is_lost(tmp_path: Path) -> None:
    """The kill follows the answer at once."""
    node = one_node(tmp_path)
    total = 0
    async with running(node):
        for amount in range(1, 21):
            total += amount
            assert await node.add("x", amount) == total
            node.kill9()
            await node.start()
        answer = await node.consistent("x")
        assert answer.number() == total
        assert await node.value("x") == total


async def test_a_member_killed_right_after_its_acknowledgement_is_in_the_next_consistent_read(
    tmp_path: Path,
) -> None:
    """A cluster of two: what one acknowledged and took with it comes back with it."""
    nodes = loopback_nodes(tmp_path, 2)
    total = 0
    async with running(*nodes, configured=True):
        for amount in range(1, 6):
            total += amount
            assert await nodes[0].add("x", amount) == total
            nodes[0].kill9()
            await nodes[0].start()
            await consistent_values_are(nodes, {"x": total}, within=10)


# ---- the log, without knowing its format: the file in which the counters' names are


def name_of(index: int) -> str:
    return f"needle-in-the-log-{index:03}"


async def filled_and_killed(node: Node, count: int = 40) -> Path:
    """Each increment in a commit of its own; the file that has most of the names."""
    async with running(node):
        for index in range(count):
            await node.add(name_of(index), index + 1)
    assert node.data_dir is not None
    files = [path for path in node.data_dir.glob("**/*") if path.is_file()]
    log = max(files, key=lambda path: path.read_bytes().count(b"needle-in-the-log-"))
    assert name_of(count - 1).encode() in log.read_bytes(), f"no name in {files}"
    return log


async def test_a_flipped_byte_before_good_records_stops_the_start_with_file_and_offset(
    tmp_path: Path,
) -> None:
    """Exit 1, one line, and the file stays as it is, however often it is tried."""
    node = one_node(tmp_path)
    log = await filled_and_killed(node)
    damaged = bytearray(log.read_bytes())
    at = damaged.index(name_of(20).encode()) + 3
    damaged[at] ^= 0x40
    log.write_bytes(damaged)
    for _ in range(2):
        line = await refuses(node, 1)
        assert log.name in line
        offsets = [int(digits) for digits in re.findall(r"(?<![\w.-])\d+(?![\w-])", line.replace(str(log), ""))]
        assert any(at - 500 <= offset <= at + 500 for offset in offsets), f"no offset near {at} in: {line}"
        assert log.read_bytes() == damaged


@pytest.mark.parametrize("tail", ["random", "zeros", "ones", "cut"])
async def test_a_torn_tail_is_cut_with_a_warning(tmp_path: Path, tail: str) -> None:
    """What was acknowledged before the torn record is all there, and the node goes on counting."""
    node = one_node(tmp_path)
    log = await filled_and_killed(node)
    before = log.read_bytes()
    if tail == "cut":
        log.write_bytes(before[: before.rindex(name_of(39).encode()) + 5])
    else:
        junk = {"random": random.Random(7).randbytes(77), "zeros": bytes(77), "ones": b"\xff" * 77}[tail]
        log.write_bytes(before + junk)
    async with running(node):
        said = [line for line in node.lines() if re.search(r"(?i)torn|truncat|cut|tail", line)]
        assert said, node.stderr()
        for index in range(39):
            assert await node.value(name_of(index)) == index + 1
        assert await node.value(name_of(39)) == (0 if tail == "cut" else 40)
        await node.add(name_of(39), 1)
        assert await node.stop() == 0
        await node.start()
        assert not [line for line in node.lines() if re.search(r"(?i)torn|truncat|tail", line)], node.stderr()
        assert await node.value(name_of(39)) == (1 if tail == "cut" else 41)
