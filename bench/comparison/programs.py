"""The programs that a comparison needs, and the Debian packages that contain them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import trio

from bench.client import Failed

PACKAGES = {
    "wrk": "wrk",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "etcd": "etcd-server",
    "initdb": "postgresql",
    "postgres": "postgresql",
    "psql": "postgresql",
    "pgbench": "postgresql",
}
MORE_SECONDS = 60.0  # that a program may take beyond the time for which it was asked to run


def find(program: str) -> str | None:
    """The path of a program, or None. Debian's folders of PostgreSQL's programs are searched too, the newest first."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), Path("/usr/sbin")]
    newest = sorted(folders, key=lambda folder: folder.parent.name.zfill(4), reverse=True)
    return shutil.which(program, path=os.pathsep.join(map(str, [*newest, *os.get_exec_path()])))


def path(program: str) -> str:
    """The path of a program.

    Raises:
        Failed: nowhere.
    """
    if (found := find(program)) is None:
        raise Failed(f"not installed: {missing((program,))[0]}")
    return found


def missing(programs: tuple[str, ...]) -> list[str]:
    """Those of the programs that are not installed, each with the package that contains it."""
    return [f"{program} (Debian package {PACKAGES[program]})" for program in programs if find(program) is None]


def version(program: str) -> str:
    """A program's version, or a text that says that it is missing."""
    if (found := find(program)) is None:
        return "not installed"
    flag = "-v" if program == "wrk" else "--version"
    said = subprocess.run([found, flag], capture_output=True, text=True, check=False)
    number = re.search(r"[0-9]+\.[0-9][0-9.]*", said.stdout or said.stderr)
    return number[0] if number else "unknown"


async def output(seconds: float, *command: str, user: str | None = None) -> str:
    """Run a program for some seconds, and return what it prints.

    Raises:
        Failed: it failed, or did not end.
    """
    program = path(command[0])
    with trio.move_on_after(seconds + MORE_SECONDS):
        done = await trio.run_process(
            [program, *command[1:]],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            user=user,
            extra_groups=[] if user else None,
        )
        said = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise Failed(f"{command[0]} failed: {(said + done.stderr.decode(errors='replace')).strip()}")
        return said
    raise Failed(f"{command[0]} did not end")
