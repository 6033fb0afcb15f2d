"""A data directory that can't be used: one clear line each, and exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.cluster import running
from tests.harness.processes import LAUNCHER, REPOSITORY, Node, clean_environment

_AS_NOBODY = """
import os, sys
sys.path.insert(0, os.getcwd())
from gcount.cli.node import main
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(main(["--listen", "127.0.0.1:0", "--data-dir", sys.argv[1]]))
"""


def started(*arguments: str | Path, before: str = "") -> tuple[int, list[str]]:
    """The output and the exit code of a node that must not start; `before` is a shell command that runs first."""
    command = ["sh", "-c", f'{before}\nexec "$@"', "sh", LAUNCHER, "--listen", "127.0.0.1:0", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment({}), check=False)
    assert ended.stdout == ""
    # dash, which is /bin/sh on Debian, has a line of its own for a working directory that is gone.
    return ended.returncode, [line for line in ended.stderr.splitlines() if not line.startswith("sh: 0: getcwd()")]


def one_line(*arguments: str | Path, before: str = "") -> str:
    code, lines = started(*arguments, before=before)
    assert code == 1, lines
    assert len(lines) == 1, lines
    return lines[0]


def dangling(base: Path) -> Path:
    (base / "link").symlink_to("nowhere")
    return base / "link"


def below_dangling(base: Path) -> Path:
    return dangling(base) / "data"


def a_file(base: Path) -> Path:
    (base / "file").touch()
    return base / "file"


def below_a_file(base: Path) -> Path:
    return a_file(base) / "data"


def a_loop(base: Path) -> Path:
    (base / "one").symlink_to("other")
    (base / "other").symlink_to("one")
    return base / "one"


def below_a_loop(base: Path) -> Path:
    return a_loop(base) / "data"


def too_long(base: Path) -> Path:
    return base / ("x" * 300)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (dangling, ": it is a symbolic link that leads nowhere"),
        (below_dangling, "/link is a symbolic link that leads nowhere"),
        (a_file, ": it is not a directory"),
        (below_a_file, ": Not a directory"),
        (a_loop, ": it is a symbolic link that leads nowhere"),
        (below_a_loop, ": Too many levels of symbolic links"),
        (too_long, ": File name too long"),
    ],
)
def test_a_path_that_is_no_directory_is_refused(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    line = one_line("--data-dir", path)
    assert line.startswith(f"gcount-node: the data directory {path} can't be used: ")
    assert line.endswith(reason)
    assert sorted(tmp_path.rglob("*")) == before, "it made something"


@pytest.mark.parametrize("given", [["--data-dir", "here"], ["--data-dir", "../here"]])
def test_a_relative_one_in_a_working_directory_that_was_deleted(tmp_path: Path, given: list[str]) -> None:
    (tmp_path / "gone").mkdir()
    line = one_line(*given, before=f"cd {tmp_path}/gone && rmdir {tmp_path}/gone")
    assert line == (
        f"gcount-node: the data directory '{given[1]}' can't be used: the working directory, which it is relative to, "
        f"is gone; start in another one, or give an absolute path"
    )


async def test_an_absolute_one_is_used_in_a_working_directory_that_was_deleted(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = tmp_path / "start"
    script.write_text(f'#!/bin/sh\ncd {tmp_path}/gone && rmdir {tmp_path}/gone\nexec {LAUNCHER} "$@"\n')
    script.chmod(0o755)
    node = Node(1, "127.0.0.1", 0, tmp_path / "data")
    node.launcher = script
    async with running(node):
        assert await node.add("x", 1) == 1


@pytest.mark.parametrize("what", ["look into", "write to"])
def test_a_parent_without_the_right(tmp_path: Path, what: str) -> None:
    """It runs as an ordinary user: root, which may do anything, becomes one when all modules are imported."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0 if what == "look into" else 0o500)
    parent = Path("/usr") if what == "write to" and os.geteuid() == 0 else locked
    command = [sys.executable, "-P", "-c", _AS_NOBODY, str(parent / "gcount-test")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY)
    locked.chmod(0o700)
    assert ended.stderr == f"gcount-node: the data directory {parent}/gcount-test can't be used: Permission denied\n"
    assert ended.returncode == 1
