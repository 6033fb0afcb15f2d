"""Clients that are missing: one test installs them, or it is skipped and names what would install them."""

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
    """Skip a test if something that it needs is missing."""
    try:
        yield
    except Missing as missing:
        pytest.skip(str(missing))


def find(program: str) -> str | None:
    """The path of a program, or None. Servers are often in folders that are not in a user's PATH."""
    return shutil.which(program, path=_PLACES)


def require(programs: tuple[str, ...], debian: str) -> None:
    """Raise Missing if a program is not installed.

    Args:
        programs: all programs that are needed.
        debian: the Debian packages that contain them.
    """
    absent = [program for program in programs if find(program) is None]
    if absent:
        raise Missing(f"{', '.join(absent)} not installed (Debian: {debian})")


def require_all() -> None:
    """Raise Missing unless the environment asks for every client."""
    if os.environ.get(ALL) != "all":
        raise Missing(f"takes long, or installs a client for itself alone: {ALL}=all runs it")


def install_pip(folder: Path, *packages: str) -> dict[str, str]:
    """Install Python packages beside those of the tests; returns the environment in which they are found first."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    _install(*pip, "--target", str(folder), *packages)
    return {"PYTHONPATH": str(folder)}


def install_npm(folder: Path, *packages: str) -> dict[str, str]:
    """Install packages of node.js; returns the environment in which they are found."""
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
