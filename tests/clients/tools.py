"""Clients that are not there: installed for one test, beside nothing else, or named with what installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ALL = "GCOUNT_CLIENTS"  # "all": install what is missing, and run every client
INSTALL_WITHIN = 180.0  # seconds
_PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


class Missing(Exception):
    """A client can't be run here; the text says why, and how to install it."""


@contextmanager
def skipping() -> Iterator[None]:
    """Skip a test where what it needs is missing."""
    try:
        yield
    except Missing as missing:
        pytest.skip(str(missing))


def find(program: str) -> str | None:
    """Where a program is; those of servers are often in no user's path."""
    return shutil.which(program, path=_PLACES)


def require(programs: tuple[str, ...], debian: str) -> None:
    """Raise Missing where a program is not installed.

    Args:
        programs: all that are needed.
        debian: the packages that bring them.
    """
    absent = [program for program in programs if find(program) is None]
    if absent:
        raise Missing(f"{', '.join(absent)} not installed (Debian: {debian})")


def require_all() -> None:
    """Raise Missing unless every client is to be run."""
    if os.environ.get(ALL) != "all":
        raise Missing(f"takes long, or installs a client for itself alone: {ALL}=all runs it")


def install_pip(folder: Path, *packages: str) -> dict[str, str]:
    """Install Python packages beside those of the tests; returns what finds them first, for the environment."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    _install(*pip, "--target", str(folder), *packages)
    return {"PYTHONPATH": str(folder)}


def install_npm(folder: Path, *packages: str) -> dict[str, str]:
    """Install packages of node.js; returns what finds them, for the environment."""
    require(("node", "npm"), "nodejs npm")
    options = ["--prefix", str(folder), "--no-audit", "--no-fund", "--fetch-retries=0"]
    _install("npm", "install", *options, *packages)
    return {"NODE_PATH": str(folder / "node_modules")}


def _install(*command: str) -> None:
    require_all()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"not installed in time by: {' '.join(command)}") from None
    if done.returncode != 0:
        raise Missing(f"can't be installed by {' '.join(command)}: {done.stderr.strip()[-300:]}")
