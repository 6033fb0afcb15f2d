"""Processes that a benchmark starts, and ends again in any case."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

END_WITHIN = 10.0  # seconds


@contextmanager
def process(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for as long as the context lasts.

    Args:
        command: the program and its arguments.
        log: the file for its output.
        environment: its environment variables; by default those of this process.
        user: the user that runs it; by default the user of this process.
        stop: the signal that asks it to end; a program that does not end in time is killed.
    """
    with log.open("wb") as file:
        running = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    try:
        yield running
    finally:
        running.send_signal(stop)
        with suppress(subprocess.TimeoutExpired):
            running.wait(END_WITHIN)
        running.kill()
        running.wait()


async def free_port(host: str = "127.0.0.1") -> int:
    """A port on which no program listens at this moment."""
    with trio.socket.socket() as probe:
        await probe.bind((host, 0))
        return int(probe.getsockname()[1])


def memory(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    resident = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")
