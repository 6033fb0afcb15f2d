"""A node under strace: its system calls in order, and calls that strace makes fail or delays.

The order of the lines is the order of events. strace stops a thread before a call is carried out and again after it,
and writes a line each time. So if the end of a call is above the beginning of another call, the first one had returned
before the second one was carried out.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.harness.processes import Node
from tests.harness.waiting import eventually

CALLS = "write,writev,pwrite64,sendto,sendmsg,sendmmsg,sendfile,read,recvfrom,fdatasync,fsync,ftruncate,renameat"
MAX_STRING = 4 * 1024 * 1024  # bytes of a buffer that are shown
END_WITHIN = 10.0  # seconds that strace has for its last lines after the process has ended

_LINE = re.compile(r"(\d+) +\d+\.\d+ (.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_UNFINISHED = " <unfinished ...>"
_COMPLETE = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_FD = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*|\w+:\[[^\]]*\])>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def why_not() -> str | None:
    """Why strace cannot be used here, or None."""
    if shutil.which("strace") is None:
        return "needs strace"
    tried = subprocess.run(["strace", *_options("/dev/null"), "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace does not work here: {tried.stderr.strip()}"


@dataclass(frozen=True)
class Call:
    """One system call.

    `fd` is its first argument: a path, or both ends of a connection. `strings` are its paths or bytes. `result` is None
    if it never returned. `began` and `ended` are line numbers.
    """

    name: str
    fd: str
    strings: tuple[bytes, ...]
    result: int | None
    began: int
    ended: int | None = None

    @property
    def data(self) -> bytes:
        """The bytes that it wrote, sent or received; if it never returned, all bytes that it may have."""
        if not self.strings:
            return b""
        count = len(self.strings[0]) if self.result is None else max(0, self.result)
        return self.strings[0][:count]


def parse(text: str) -> list[Call]:
    """All calls of a trace, in the order in which they began."""
    calls: dict[int, Call] = {}
    unfinished: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines()):
        found = _LINE.fullmatch(line)
        assert found is not None, f"line {number} is no line of strace: {line[:200]}"
        thread, what = found.groups()
        if what.startswith(("---", "+++", "???")):
            # Signals, ends, and calls that a kill has overtaken before strace knew them: those calls never happened.
            continue
        began = number
        if resumed := _RESUMED.fullmatch(what):
            began, start = unfinished.pop(thread)
            what = start + resumed[2]
        elif what.endswith(_UNFINISHED):
            start = what.removesuffix(_UNFINISHED)
            unfinished[thread] = number, start
            calls[number] = _call(start + ") = ?", number, None)
            continue
        calls[began] = _call(what, began, number)
    return list(calls.values())


def _call(text: str, began: int, ended: int | None) -> Call:
    found = _COMPLETE.fullmatch(text)
    assert found is not None, f"line {began} is no system call: {text[:200]}"
    name, arguments, result, _ = found.groups()
    first = _FD.match(arguments)
    fd = "" if first is None else first[1]
    strings = []
    for string, cut_off in _STRING.findall(arguments):
        assert not cut_off, f"line {began} does not show all bytes"
        strings.append(_unescape(string))
    if fd.startswith("\\x"):
        fd = _unescape(fd).decode()
    return Call(name, fd, tuple(strings), None if result == "?" else int(result), began, ended)


def _unescape(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def without(calls: Sequence[Call], unwanted: Call) -> list[Call]:
    """The trace as if one call had failed, to see whether a checker notices it."""
    return [replace(call, result=-1) if call is unwanted else call for call in calls]


def _options(trace: Path | str) -> list[str]:
    # -DD: the tracer is a detached grandchild, so that the started process itself becomes the node.
    return f"-DD -f -q --seccomp-bpf -ttt -yy -xx -s {MAX_STRING} -e trace={CALLS} -o {trace}".split(" ")


class TracedNode(Node):
    """A node that is traced at each start; strace changes the calls that `inject` names."""

    inject: Sequence[str] = ()

    @property
    def trace_path(self) -> Path:
        """The trace of the newest start."""
        return self.stderr_path.with_suffix(f".{self.starts}.strace")

    def prefix(self) -> list[str]:
        injected = [option for expression in self.inject for option in ("-e", f"inject={expression}")]
        return ["strace", *_options(self.trace_path), *injected]

    async def trace(self) -> list[Call]:
        """All calls of the newest start; its process has to have ended."""
        assert self.process is not None
        assert self.process.poll() is not None, f"{self} still runs"
        last = f"{self.process.pid} "
        text = ""

        async def ended() -> str | None:
            nonlocal text
            with contextlib.suppress(FileNotFoundError):
                text = self.trace_path.read_text()
            end = text.splitlines()[-1:]
            whole = end and text.endswith("\n") and end[0].startswith(last) and " +++ " in end[0]
            return None if whole else f"the trace of {self} has no end: {end}"

        await eventually(ended, END_WITHIN)
        return parse(text)
