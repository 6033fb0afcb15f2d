"""gcount as a package: a wheel, installed where nothing else is, and its two commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.harness.processes import READY, REPOSITORY

PATIENCE = 240.0  # seconds that an installation may take on a slow machine or line


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    ours = ("GCOUNT_", "CHALLENGE_", "PYTHON", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment in which there is a wheel of gcount, and what that needs."""
    base = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", base, REPOSITORY, cwd=base)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = base.glob("gcount-*.whl")
    made = run(sys.executable, "-I", "-m", "venv", "--without-pip", base / "venv", cwd=base)
    assert made.returncode == 0, made.stderr
    pins: list[str | Path] = ["--constraint", REPOSITORY / "constraints.txt"]
    installed = run(*pip, "--python", base / "venv", "install", *pins, wheel, cwd=base)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return base / "venv" / "bin"


def files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if "__pycache__" not in file.parts}


def test_a_node_keeps_its_data_where_it_was_started(commands: Path, tmp_path: Path) -> None:
    errors = tmp_path.parent / f"{tmp_path.name}.stderr"
    before = files(commands.parent)
    with errors.open("wb") as file:
        node = subprocess.Popen([commands / "gcount-node", "--listen", "127.0.0.1:0"], cwd=tmp_path, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while (ready := READY.search(errors.read_text())) is None:
            assert node.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.02)
        url = f"http://127.0.0.1:{ready[2]}/counter/x"
        assert urllib.request.urlopen(url, data=b"5", timeout=10).read() == b"5\n"
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=10) == 0
    finally:
        node.kill()
        node.wait()
    assert [str(file.relative_to(tmp_path)) for file in sorted(tmp_path.iterdir())] == ["data"]
    assert any((tmp_path / "data" / "1").glob("*.log"))
    assert files(commands.parent) == before, "it wrote where it is installed"
    verified = run(commands / "gcount", "verify", "data/1", cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.startswith("data/1: whole\n")
    assert "counters      1" in verified.stdout


def test_the_commands_say_what_they_are(commands: Path, tmp_path: Path) -> None:
    assert run(commands / "gcount-node", "--version", cwd=tmp_path).stdout == "gcount 0.1.0\n"
    assert run(commands / "gcount", "--version", cwd=tmp_path).stdout == "gcount 0.1.0\n"
    bad = run(commands / "gcount", "verify", "nowhere", cwd=tmp_path)
    assert (bad.returncode, bad.stderr) == (2, "gcount: error: nowhere is not a directory\n")
    assert list(tmp_path.iterdir()) == []
