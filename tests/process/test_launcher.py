"""The launchers, run as a user would run them: in a copy of the project without an environment.

Only one fixture really installs, in the hardest case: a first start is killed half-way, then three start at once. The
decisions of the shell part are tested with an environment in which Python is only a script.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gcount.version import NUMBER

PROJECT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 240.0  # seconds that an installation may take on a slow machine or line


def copy_of_the_project(target: Path) -> Path:
    """A copy of the project with the files of a new clone."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.split("\0") if name and (PROJECT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):  # not a clone but, say, an unpacked archive
        tops = ["bin", "gcount", "pyproject.toml", "constraints.txt"]
        files = [file for top in tops for file in [PROJECT / top, *(PROJECT / top).rglob("*")] if file.is_file()]
        names = [str(file.relative_to(PROJECT)) for file in files if "__pycache__" not in file.parts]
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target / name)
    return target


def environment(**extra: str) -> dict[str, str]:
    ours = ("GCOUNT_", "CHALLENGE_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | extra


def run(*command: str | Path, cwd: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def start(*command: str | Path, errors: Path) -> subprocess.Popen[bytes]:
    with errors.open("wb") as file:
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=file, env=environment(), start_new_session=True
        )


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes], errors: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, f"ended with {process.returncode}: {errors.read_text()}"
        assert time.monotonic() < deadline, f"not in time: {errors.read_text()}"
        time.sleep(0.02)


def wait_for(text: str, errors: Path, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: text in errors.read_text(), process, errors)


def kill(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- with the real installation


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new copy in which one first start was killed half-way, and then three started at the same moment."""
    folder = tmp_path_factory.mktemp("a new clone")  # with spaces, as users have them
    project = copy_of_the_project(folder / "gcount")
    launcher = project / "bin" / "gcount-node"

    killed = start(launcher, "1", errors=folder / "killed")
    try:
        wait_for("installing", folder / "killed", killed)
        python = project / ".venv" / "bin" / "python"
        wait_until(python.exists, killed, folder / "killed")
    finally:
        kill(killed)
    assert not (project / ".venv" / "gcount-node").exists()
    (project / ".venv" / "left over").touch()

    logs = [folder / f"log {number}" for number in (1, 2, 3)]
    nodes = [start(launcher, str(n + 1), "--listen", "127.0.0.1:0", errors=log) for n, log in enumerate(logs)]
    try:
        for node, log in zip(nodes, logs, strict=True):
            wait_for("ready on http://127.0.0.1:", log, node)
        for node in nodes:
            node.terminate()  # the launcher's own process is the node
        assert [node.wait(timeout=10) for node in nodes] == [0, 0, 0]
    finally:
        kill(*nodes)
    assert sum("installing" in log.read_text() for log in logs) == 1
    return project


def test_first_starts_at_once_after_a_killed_one(installed: Path) -> None:
    assert (installed / ".venv" / "gcount-node").exists()
    assert not (installed / ".venv" / "left over").exists()


def test_the_installed_versions_are_the_pinned_ones(installed: Path) -> None:
    freeze = run(installed / ".venv" / "bin" / "python", "-m", "pip", "freeze", "--disable-pip-version-check")
    versions = {line.lower().replace("_", "-") for line in freeze.stdout.splitlines()}
    pinned = {line.split(";")[0] for line in (installed / "constraints.txt").read_text().splitlines()}
    assert versions
    assert versions <= pinned


def test_later_starts_write_nothing_and_say_nothing(installed: Path) -> None:
    launcher = installed / "bin" / "gcount-node"
    run(launcher, "--version")

    def state() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in installed.rglob("*")}

    before = state()
    again = run(launcher, "--version")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"gcount {NUMBER}\n", "")
    assert state() == before


def test_any_folder_and_a_link_will_do(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('a stray file was imported')")
    (tmp_path / "gcount").mkdir()
    (tmp_path / "link").symlink_to(installed / "bin" / "gcount-node")
    started = run("./link", "--version", cwd=tmp_path)
    assert (started.returncode, started.stdout, started.stderr) == (0, f"gcount {NUMBER}\n", "")


def test_a_mistake_is_one_line_and_code_2(installed: Path) -> None:
    launcher = installed / "bin" / "gcount-node"
    for mistake in (run(launcher, "--wrong"), run(launcher, "0"), run(launcher, CHALLENGE_TIMEOUT="0")):
        assert mistake.returncode == 2
        assert mistake.stdout == ""
        [line] = mistake.stderr.splitlines()
        assert line.startswith("gcount-node: error: ")


# ---- with a made-up environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy with an environment that looks complete; its Python only prints how it was called."""
    project = copy_of_the_project(tmp_path / "gcount")
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    script(python, 'echo "$$ $PWD $*"')
    pins = (project / "pyproject.toml").read_text() + (project / "constraints.txt").read_text()
    for flavour in ("node", "test"):
        (project / ".venv" / f"gcount-{flavour}").write_text(f"{project}\n{pins}")
    return project


def script(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_the_launcher_becomes_the_node(project: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [project / "bin" / "gcount-node", "3", "--cluster", "two words"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()) as process:
        printed, _ = process.communicate(timeout=10)
    assert printed == f"{process.pid} {tmp_path} -P -m gcount 3 --cluster two words\n"


def test_the_launcher_keeps_data_in_the_project_wherever_it_is_started(project: Path, tmp_path: Path) -> None:
    script(project / ".venv" / "bin" / "python", 'echo "$GCOUNT_DATA_ROOT"')
    assert run(project / "bin" / "gcount-node", cwd=tmp_path).stdout == f"{project}/data\n"


def test_the_test_command_checks_everything_or_runs_the_given_tests(project: Path, tmp_path: Path) -> None:
    def calls(*arguments: str) -> list[str]:
        printed = run(project / "bin" / "test", *arguments, cwd=tmp_path).stdout
        return [line.split(f" {project} -P -m ")[1] for line in printed.splitlines()]

    assert calls("tests/core", "-k", "join") == ["pytest tests/core -k join"]
    whole = calls()
    assert [line.split()[0] for line in whole] == ["ruff", "ruff", "mypy", "deptry", "deptry", "pytest"]
    assert re.fullmatch("pytest -n [0-9]+ --dist worksteal", whole[-1].strip())


def test_the_test_command_stops_at_the_first_failure(project: Path) -> None:
    script(project / ".venv" / "bin" / "python", 'echo "$*"; [ "$3" != mypy ]')
    failed = run(project / "bin" / "test")
    assert failed.returncode == 1
    assert "pytest" not in failed.stdout


def tools(folder: Path, **pythons: str) -> str:
    """A PATH with what the launcher needs and these Pythons only."""
    folder.mkdir()
    for tool in ("cat", "readlink"):
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    for name, text in pythons.items():
        script(folder / name.replace("_", "."), text)
    return str(folder)


def test_without_a_suitable_python_there_is_one_line(project: Path, tmp_path: Path) -> None:
    (project / ".venv" / "gcount-node").unlink()
    failed = run(project / "bin" / "gcount-node", PATH=tools(tmp_path / "old", python3="exit 1"))
    assert failed.returncode == 1
    assert failed.stderr == (
        "gcount-node: error: needs Python 3.11 or newer with venv and pip; "
        "tried: python3 python3.13 python3.12 python3.11\n"
    )
    failed = run(project / "bin" / "gcount-node", GCOUNT_PYTHON="/no such/python")
    assert failed.returncode == 1
    assert failed.stderr.endswith("; tried: /no such/python\n")


def test_an_old_python3_is_passed_over(project: Path, tmp_path: Path) -> None:
    (project / ".venv" / "gcount-node").unlink()
    path = tools(tmp_path / "some", python3="exit 1", python3_12='echo "used: $0 $*"')
    started = run(project / "bin" / "gcount-node", PATH=path)
    assert f"used: {path}/python3.12 -I -B {project}/bin/_environment.py node" in started.stdout
    assert started.stdout.splitlines()[-1].endswith("-P -m gcount")


@pytest.mark.parametrize("change", ["pins", "place", "interpreter"])
def test_an_environment_for_something_else_is_not_used(change: str, project: Path, tmp_path: Path) -> None:
    if change == "pins":
        with (project / "constraints.txt").open("a") as file:
            file.write("trio==0.35.0\n")
    elif change == "place":
        project = project.rename(tmp_path / "moved")
    else:
        (project / ".venv" / "bin" / "python").unlink()
        (project / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    path = tools(tmp_path / "some", python3='[ "$2" = -c ] || exit 7')
    assert run(project / "bin" / "gcount-node", PATH=path).returncode == 7


def test_a_new_commit_needs_no_new_environment(project: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "some", python3="exit 7")
    for commit in ("1" * 40, "2" * 40):
        (project / ".git").mkdir(exist_ok=True)
        (project / ".git" / "HEAD").write_text(f"{commit}\n")
        started = run(project / "bin" / "gcount-node", PATH=path)
        assert (started.returncode, started.stderr) == (0, "")


def test_a_failed_installation_is_reported_and_leaves_nothing_that_looks_complete(project: Path) -> None:
    (project / "constraints.txt").write_text("trio==0\n")
    failed = run(project / "bin" / "gcount-node", PIP_NO_INDEX="1", PIP_RETRIES="0")
    assert failed.returncode == 1
    assert failed.stdout == ""
    first, *pip, last = failed.stderr.splitlines()
    assert first.startswith("gcount-node: installing what gcount needs into ")
    assert pip
    assert last == "gcount-node: error: pip failed with code 1; its output is above"
    assert not list((project / ".venv").glob("gcount-*"))
