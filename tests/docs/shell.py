"""A shell in which the commands of a page are typed, one after the other, and all that it starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness.waiting import eventually

PATIENCE = 60.0  # seconds for one command
_END = re.compile("\x1e([0-9]+)\x1e\n")
_JOB_ENDED = re.compile(r"^\S+: line \d+: +\d+ (?:Killed|Terminated)\b.*\n", re.MULTILINE)


class Shell:
    """A running bash.

    Args:
        folder: its working directory, with its files.
        said: the file for everything that the commands print.
        bash: its process.

    Attributes:
        jobs: how many commands were started in the background.
    """

    def __init__(self, folder: Path, said: Path, bash: subprocess.Popen[bytes]) -> None:
        self._folder, self._said, self._bash = folder, said, bash
        self.jobs = 0

    async def run(self, command: str) -> tuple[int, str]:
        """Type a command and wait for its end; returns its exit code and its output."""
        assert self._bash.stdin is not None
        began = self._said.stat().st_size
        typed = f'{{ {command}\n}} </dev/null 2>&1\nstatus=$?; printf "\\036%d\\036\\n" $status; (exit $status)\n'
        self._bash.stdin.write(typed.encode())
        self._bash.stdin.flush()

        async def ended() -> str | None:
            assert self._bash.poll() is None, f"the shell ended in: {command}\n{self._printed(began)}"
            done = _END.search(self._printed(began))
            return None if done else f"still runs: {command}\n{self._printed(began)}"

        await eventually(ended, PATIENCE)
        printed = self._printed(began)
        done = _END.search(printed)
        assert done is not None
        return int(done[1]), _JOB_ENDED.sub("", printed[: done.start()])

    async def start(self, command: str) -> Path:
        """Type a command that runs in the background; returns the file with its output."""
        self.jobs += 1
        log = self._folder / f".background-{self.jobs}"
        log.touch()  # the shell creates it only when the job runs
        await self.run(f"{command.removesuffix('&')} >{log} 2>&1 &")
        return log

    def _printed(self, since: int) -> str:
        with self._said.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")


@contextmanager
def shell(folder: Path, environment: Mapping[str, str]) -> Iterator[Shell]:
    """A shell without the user's settings. All processes that it has started end with the context."""
    said = folder / ".said"
    with said.open("wb") as output:
        bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Shell(folder, said, bash)
    finally:
        while members := _of_session(bash.pid):
            for process in members:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            bash.wait()
        bash.communicate()


def _of_session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, _group, session = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found
