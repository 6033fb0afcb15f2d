"""Clients that are not there: installed for one test, beside nothing else, or named with what installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ALL = "GCOUNT_CLIENTS"  # "all": install what is missing
INSTALL_WITHIN = 180.0  # seconds


def find(command: str, debian: str) -> str:
    """The path of a command; skips the test where it is not installed."""
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed (Debian: {debian})")
    return path


def install_pip(folder: Path, *packages: str) -> dict[str, str]:
    """Install Python packages beside those of the tests; returns the environment that finds them first."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    _install(*pip, "--target", str(folder), *packages)
    return {**os.environ, "PYTHONPATH": str(folder)}


def install_npm(folder: Path, *packages: str) -> dict[str, str]:
    """Install packages of node.js; returns the environment that finds them."""
    npm = find("npm", "nodejs npm")
    _install(npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--fetch-retries=0", *packages)
    return {**os.environ, "NODE_PATH": str(folder / "node_modules")}


def _install(*command: str) -> None:
    if os.environ.get(ALL) != "all":
        pytest.skip(f"takes long, and installs a client for itself: {ALL}=all runs it")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"not installed in time by: {' '.join(command)}")
    if done.returncode != 0:
        pytest.skip(f"can't be installed by: {' '.join(command)}: {done.stderr.strip()[-300:]}")
