"""gcount as a package: a wheel in an empty environment, its two commands, and its types."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from gcount.version import VERSION
from tests.harness.processes import READY, REPOSITORY

PATIENCE = 240.0  # seconds that an installation may take on a slow machine or line
PIP = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
PINS = REPOSITORY / "constraints.txt"


def run(*command: str | Path, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    ours = ("GCOUNT_", "CHALLENGE_", "PYTHON", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | extra
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def require_index(folder: Path) -> None:
    """Skip if pip cannot get what every build needs: then no failure below would be gcount's."""
    once = ["--no-cache-dir", "--retries", "1", "--no-deps"]
    probe = run(*PIP, "download", *once, "--dest", folder / "probe", "hatchling", cwd=folder)
    if probe.returncode != 0:
        pytest.skip(f"pip can't reach its package index: {probe.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m build` makes: a source archive, and of that a wheel."""
    base = tmp_path_factory.mktemp("package")
    require_index(base)
    build = [sys.executable, "-I", "-m", "build"]
    built = run(*build, "--outdir", base, REPOSITORY, cwd=base, PIP_CONSTRAINT=str(PINS))
    assert built.returncode == 0, built.stdout + built.stderr
    assert list(base.glob("gcount-*.tar.gz"))
    [made] = base.glob("gcount-*.whl")
    return made


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment in which there is a wheel of gcount, and what that needs."""
    base = tmp_path_factory.mktemp("installed")
    made = run(sys.executable, "-I", "-m", "venv", "--without-pip", base / "venv", cwd=base)
    assert made.returncode == 0, made.stderr
    installed = run(*PIP, "--python", base / "venv", "install", "--constraint", PINS, wheel, cwd=base)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return base / "venv" / "bin"


@pytest.fixture(scope="module")
def version(wheel: Path) -> str:
    """What the wheel says that it is."""
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        found = re.search(r"^Version: (.*)$", archive.read(metadata).decode(), re.MULTILINE)
    assert found is not None
    return found[1]


def files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if "__pycache__" not in file.parts}


def test_a_wheel_names_its_commit_and_holds_license_and_types(wheel: Path, version: str) -> None:
    # A copy of the project without its repository has no commit to name; files that were edited are said to be so.
    assert version in (VERSION, f"{VERSION}.dirty")
    assert wheel.name == f"gcount-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert "gcount/py.typed" in archive.namelist()
        license_file = archive.read(f"gcount-{version}.dist-info/licenses/LICENSE")
        assert license_file == (REPOSITORY / "LICENSE").read_bytes()
        metadata = archive.read(f"gcount-{version}.dist-info/METADATA").decode()
        assert "\nLicense-Expression: Apache-2.0\n" in metadata
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"gcount", f"gcount-{version}.dist-info"}


def test_a_node_keeps_its_data_where_it_was_started(commands: Path, version: str, tmp_path: Path) -> None:
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
        url = f"http://127.0.0.1:{ready[2]}"
        assert urllib.request.urlopen(f"{url}/counter/x", data=b"5", timeout=10).read() == b"5\n"
        status = json.load(urllib.request.urlopen(f"{url}/status", timeout=10))
        assert status["gcount_version"] == version
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


def test_the_commands_say_what_they_are(commands: Path, version: str, tmp_path: Path) -> None:
    assert run(commands / "gcount-node", "--version", cwd=tmp_path).stdout == f"gcount {version}\n"
    assert run(commands / "gcount", "--version", cwd=tmp_path).stdout == f"gcount {version}\n"
    bad = run(commands / "gcount", "verify", "nowhere", cwd=tmp_path)
    assert (bad.returncode, bad.stderr) == (2, "gcount: error: nowhere is not a directory\n")
    assert list(tmp_path.iterdir()) == []


def test_programs_that_use_gcount_are_checked_against_its_types(commands: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "from gcount.settings import parse\n\nreveal_type(parse([], {}).port)\n", "utf-8"
    )
    mypy = [sys.executable, "-I", "-m", "mypy", "--strict", "--config-file=", "--cache-dir", os.devnull]
    checked = run(*mypy, "--python-executable", commands / "python", "program.py", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert 'Revealed type is "int"' in checked.stdout.replace("builtins.", "")
