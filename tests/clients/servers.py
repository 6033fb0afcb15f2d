"""Third-party programs between a client and a node: started for one test, with files of their own, and always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.clients.tools import find
from tests.harness.client import Address
from tests.harness.cluster import free_port
from tests.harness.waiting import eventually

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skips a test where a program is missing."""
    reason = f"{program} is not installed (Debian: apt-get install {package})"
    return pytest.mark.skipif(find(program) is None, reason=reason)


def free_ports(count: int) -> list[int]:
    """Different ports that are free."""
    chosen: set[int] = set()
    while len(chosen) < count:
        chosen.add(free_port([HOST]))
    return sorted(chosen)


@asynccontextmanager
async def listening(folder: Path, port: int, command: Sequence[str | Path]) -> AsyncIterator[Address]:
    """A program that listens on a port, in a folder of its own."""
    with _started(folder, command) as process:

        async def up() -> str | None:
            said = (folder / "output").read_text("utf-8", "replace")
            assert process.poll() is None, f"{command[0]} ended: {said}"
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                return None
            return f"{command[0]} does not listen: {said}"

        await eventually(up, PATIENCE)
        yield Address(HOST, port)


@contextmanager
def _started(folder: Path, command: Sequence[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
    program = find(str(command[0]))
    assert program is not None
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
            os.killpg(process.pid, signal.SIGKILL)  # with all its children
        process.wait()
