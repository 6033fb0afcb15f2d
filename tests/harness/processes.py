"""Real node processes, started through the launcher as a user starts them, and always reaped.

Standard error goes to a file, so that a full pipe can never stop a node and a failure can show it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.harness.client import Address, Client, Response, once
from tests.harness.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCHER = Path(os.environ.get("GCOUNT_TEST_LAUNCHER", REPOSITORY / "bin" / "gcount-node"))
READY = re.compile(r"ready on http://(\[[0-9a-fA-F:.]*\]|[^\s:/]+):(\d+)")
START_WITHIN = 60.0
SETTINGS = frozenset(
    (
        "GCOUNT_LISTEN",
        "GCOUNT_DATA_DIR",
        "GCOUNT_CLUSTER",
        "GCOUNT_MAX_COUNTERS",
        "GCOUNT_MAX_IDS",
        "GCOUNT_RETRY_WINDOW",
        "CHALLENGE_TIMEOUT",
    )
)


class NeverReady(AssertionError):
    """The process ended before it was ready."""


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment without a node's settings, plus `extra`."""
    kept = {name: text for name, text in os.environ.items() if name not in SETTINGS}
    return {**kept, **extra}


class Node:
    """One node as a user has it: its command, its data directory, and its process while it runs.

    `host` is the address for clients. `listen` None leaves the flag out. `nofile` lowers the hard limit of open files.
    """

    def __init__(
        self,
        number: int,
        host: str,
        port: int,
        data_dir: Path | None,
        *,
        listen: str | None = "",
        namespace: str | None = None,
        client_namespace: str | None = None,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        nofile: int | None = None,
        log_dir: Path | None = None,
    ) -> None:
        self.number, self.host, self.port, self.data_dir = number, host, port, data_dir
        self.namespace, self.client_namespace = namespace, client_namespace
        self.env = dict(env or {})
        self.nofile = nofile
        bracketed = f"[{host}]" if ":" in host else host
        listening = f"{bracketed}:{port}" if listen == "" else listen
        self.arguments = [str(number)]
        self.arguments += ["--listen", listening] if listening is not None else []
        self.arguments += ["--data-dir", str(data_dir)] if data_dir is not None else []
        self.arguments += flags
        folder = log_dir or (data_dir.parent if data_dir is not None else Path.cwd())
        folder.mkdir(parents=True, exist_ok=True)
        self.stderr_path = folder / f"node-{number}-{host.replace(':', '.')}.stderr"
        self.launcher = LAUNCHER
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._this_start = self._marked = 0

    def __repr__(self) -> str:
        return f"node {self.number} at {self.host}:{self.port}"

    # ---- start and end

    def prefix(self) -> list[str]:
        """The command under which this start's launcher runs; none here."""
        return []

    def spawn(self) -> None:
        """Start the process and return at once."""
        assert self.process is None or self.process.poll() is not None, f"{self} already runs"
        self.starts += 1
        command = [*self.prefix(), str(self.launcher), *self.arguments]
        if shutil.which("setpriv"):  # so that no node is left if the tests are killed
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        if self.nofile is not None:
            command = ["sh", "-c", f'ulimit -n {self.nofile}; exec "$@"', "sh", *command]
        if self.namespace is not None:
            command = ["ip", "netns", "exec", self.namespace, *command]
        with self.stderr_path.open("ab") as stderr:
            self._this_start = self._marked = stderr.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=clean_environment(self.env),
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Whether this start has logged that it is ready; raises if the process has ended."""
        found = READY.search(self.stderr())
        if found is not None:
            self.port = int(found[2])
            return True
        assert self.process is not None
        if self.process.poll() is not None:
            raise NeverReady(f"{self} ended with {self.process.returncode}:\n{self.stderr()}")
        return False

    async def ready(self, within: float = START_WITHIN) -> None:
        async def check() -> str | None:
            return None if self.is_ready() else f"{self} is not ready:\n{self.stderr()}"

        await eventually(check, within)

    async def start(self) -> None:
        self.spawn()
        await self.ready()

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone, as `kill` does; only while it is ours and not reaped."""
        assert self.process is not None, f"{self} was never started"
        assert self.process.poll() is None, f"{self} is not running"
        os.kill(self.process.pid, number)

    def kill9(self) -> None:
        """Kill the process with SIGKILL, and reap it. Does nothing if it does not run."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def pause(self) -> None:
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.send_signal(signal.SIGCONT)

    async def exited(self, within: float) -> int:
        """Wait for the end of the process; returns its exit code."""
        process = self.process
        assert process is not None

        async def check() -> str | None:
            return None if process.poll() is not None else f"{self} still runs:\n{self.stderr()}"

        await eventually(check, within)
        return process.wait()

    async def stop(self, number: int = signal.SIGTERM, within: float = 3.0) -> int:
        """Stop the process by a signal; a node promises to end within 3 s."""
        self.send_signal(number)
        return await self.exited(within)

    # ---- what can be seen from outside

    def stderr(self, *, whole: bool = False) -> str:
        """Standard error of this start, or of all."""
        if not self.stderr_path.exists():
            return ""
        with self.stderr_path.open("rb") as file:
            file.seek(0 if whole else self._this_start)
            return file.read().decode("utf-8", "backslashreplace")

    def mark(self) -> None:
        """Set the mark of `since_mark`."""
        self._marked = self.stderr_path.stat().st_size

    def since_mark(self) -> str:
        """Standard error since the mark, or since the start if that is later."""
        return self.stderr_path.read_bytes()[self._marked :].decode("utf-8", "backslashreplace")

    def lines(self) -> list[str]:
        """The non-empty lines of this start's standard error."""
        return [line for line in self.stderr().splitlines() if line.strip()]

    def resident_bytes(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    @property
    def address(self) -> Address:
        return Address(self.host, self.port, self.client_namespace)

    def client(self) -> Client:
        return Client(self.address)

    async def get(self, target: str, timeout: float = 10.0) -> Response:
        return await once(self.address, "GET", target, timeout=timeout)

    async def post(self, target: str, body: bytes, timeout: float = 10.0) -> Response:
        return await once(self.address, "POST", target, body, timeout=timeout)

    async def add(self, name: str, amount: int) -> int:
        """Increment a counter; it has to be acknowledged. Returns the value."""
        return (await self.post(f"/counter/{name}", b"%d" % amount)).number()

    async def value(self, name: str) -> int:
        return (await self.get(f"/counter/{name}/value")).number()

    async def consistent(self, name: str, timeout: float | None = None) -> Response:
        query = "" if timeout is None else f"?timeout={timeout}"
        return await self.get(f"/counter/{name}/consistent_value{query}", timeout=75)

    async def metric(self, series: str) -> float:
        """The value of one series in `/metrics`; its name has its labels."""
        for line in (await self.get("/metrics")).body.decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        raise AssertionError(f"{self} has no metric {series}")

    async def config(self) -> Any:
        answer = await self.get("/config")
        assert answer.status == 200, answer
        return answer.json()


def show(nodes: Sequence[Node], last_lines: int = 40) -> None:
    """Print the end of every node's standard error, for a failing test."""
    for node in nodes:
        print(f"---- {node}, {node.starts} starts: {shlex.join(node.arguments)}", file=sys.stderr)
        print("\n".join(node.stderr(whole=True).splitlines()[-last_lines:]), file=sys.stderr)
