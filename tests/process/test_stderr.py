"""A node without a working standard error loses its log lines, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from tests.harness.client import Address, NotSent, once
from tests.harness.cluster import free_port
from tests.harness.processes import LAUNCHER, clean_environment
from tests.harness.waiting import eventually

HOST = "127.0.0.1"
WITHIN = 60.0


def start(data: Path, port: int, redirection: str, stderr: int) -> subprocess.Popen[bytes]:
    node = [str(LAUNCHER), "--listen", f"{HOST}:{port}", "--data-dir", str(data)]
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *node]
    return subprocess.Popen(command, stderr=stderr, env=clean_environment({}), start_new_session=True)


async def answers(address: Address) -> None:
    async def check() -> str | None:
        try:
            status = (await once(address, "GET", "/health/ready")).status
        except NotSent:
            return "nobody listens"
        return None if status == 200 else f"not ready: {status}"

    await eventually(check, WITHIN)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-", "broken pipe"])
async def test_a_node_without_standard_error_counts_and_exits_0(tmp_path: Path, closed: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    address = Address(HOST, free_port([HOST]))
    process = start(tmp_path / "data", address.port, "" if closed == "broken pipe" else closed, writer)
    os.close(writer)
    try:
        await answers(address)
        assert (await once(address, "POST", "/counter/x", b"5")).number() == 5
        config = b'{"actors": ["127.0.0.1", "127.0.0.9"]}'  # a log line or two
        assert (await once(address, "POST", "/config", config)).status == 200
        assert (await once(address, "POST", "/counter/x", b"5")).number() == 10
        process.terminate()
        assert await trio.to_thread.run_sync(process.wait, 3) == 0
    finally:
        kill(process)


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-"])
async def test_no_file_of_the_node_takes_the_place_of_a_closed_stream(tmp_path: Path, closed: str) -> None:
    """Otherwise everything that writes to standard error, also Python itself at a crash, would write into that file."""
    address = Address(HOST, free_port([HOST]))
    process = start(tmp_path / "data", address.port, closed, subprocess.DEVNULL)
    try:
        await answers(address)
        taken = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (0, 1, 2)]
        assert not [file for file in taken if file.startswith((str(tmp_path), "socket", "anon_inode"))]
    finally:
        kill(process)


@pytest.mark.parametrize("closed", ["2>&-", "broken pipe"])
def test_a_mistake_is_code_2_also_without_a_standard_error(tmp_path: Path, closed: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(tmp_path / "data", 99999, "" if closed == "broken pipe" else closed, writer)
    os.close(writer)
    try:
        assert process.wait(WITHIN) == 2
    finally:
        kill(process)
