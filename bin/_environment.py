"""Makes the environment in which nodes and tests run; called by _environment.sh when it is not complete.

Several processes may try at the same moment, and any of them may be killed. So one at a time works, under a lock,
and the stamp that marks an environment as complete is written last. An environment without a stamp is deleted and
made again. No file is written outside the environment, except its lock. Only Python's standard library is needed.

If the pinned versions change, a new environment replaces the old one: restart the nodes that run from it.
"""

import fcntl
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import TextIO

FLAVOURS = ("node", "test")


class Failed(Exception):
    """The environment can't be made. The text says why."""


def main() -> int:
    """Make an environment; the arguments are the flavour, the project's folder, the environment and the command."""
    flavour, root, venv, command = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    try:
        ensure(flavour, root, venv, command)
    except Failed as failed:
        print(f"{command}: error: {failed}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{command}: error: cannot make {venv}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def ensure(flavour: str, root: Path, venv: Path, command: str) -> None:
    """Return when the environment is complete, and make it if necessary.

    Args:
        flavour: "node", or "test" for the tools of the tests too.
        root: the project's folder.
        venv: the environment's folder.
        command: the command that was started, for messages.
    """
    if complete(flavour, root, venv):
        return
    venv.parent.mkdir(parents=True, exist_ok=True)
    # The lock file is never removed. Otherwise two processes could lock two files of the same name.
    with Path(f"{venv}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete(flavour, root, venv):
            return  # another process has made it while this one waited for the lock
        notice = f"{command}: installing what gcount needs into {venv}, once; this may take a minute"
        print(notice, file=sys.stderr, flush=True)
        if not complete("node", root, venv):
            for made in FLAVOURS:
                (venv / f"gcount-{made}").unlink(missing_ok=True)
            run(lock, base_python(), "-I", "-m", "venv", "--clear", str(venv))
            # So modules are imported from the project's folder, whatever the working directory is.
            (site_packages(venv) / "gcount.pth").write_text(f"{root}\n", "utf-8")
            install(lock, root, venv, requirements(root, "node"))
            finish("node", root, venv)
        if flavour == "test":
            # Packages are added, with the same pinned versions. A node that runs from the environment does not notice.
            install(lock, root, venv, requirements(root, "test"))
            finish("test", root, venv)


def complete(flavour: str, root: Path, venv: Path) -> bool:
    """Whether the environment is complete for this flavour, the pinned versions and, if one was chosen, the Python."""
    python = venv / "bin" / "python"
    chosen = bool(os.environ.get("GCOUNT_PYTHON"))
    try:
        finished = (venv / f"gcount-{flavour}").read_bytes() == stamp(root) and os.access(python, os.X_OK)
    except OSError:
        return False
    return finished and (not chosen or os.path.realpath(python) == base_python())


def stamp(root: Path) -> bytes:
    """The text of the stamp: what an environment depends on. _environment.sh compares it with the same text."""
    pins = [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return os.fsencode(root) + b"\n" + b"".join(pins)


def finish(flavour: str, root: Path, venv: Path) -> None:
    """Mark the environment as complete, in one step, when all of it is on disk."""
    os.sync()
    unfinished = venv / f"gcount-{flavour}.new"
    unfinished.write_bytes(stamp(root))
    unfinished.replace(venv / f"gcount-{flavour}")


def requirements(root: Path, flavour: str) -> list[str]:
    """The requirements that pyproject.toml names."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    wanted: list[str] = project["dependencies"] if flavour == "node" else project["optional-dependencies"]["test"]
    return wanted


def install(lock: TextIO, root: Path, venv: Path, wanted: list[str]) -> None:
    """Install the requirements in the exact versions of constraints.txt."""
    pip = [str(venv / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run(lock, *pip, "install", "--constraint", str(root / "constraints.txt"), *wanted)


def run(lock: TextIO, *command: str) -> None:
    """Run a command silently, and show its output if it fails.

    The command inherits the lock. If this process is killed, the next one waits until the command has ended, so two
    processes never write to one environment.
    """
    step = subprocess.run(
        command,
        pass_fds=[lock.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    if step.returncode != 0:
        sys.stderr.write(step.stdout)
        name = "pip" if "pip" in command else "venv"
        raise Failed(f"{name} failed with code {step.returncode}; its output is above")


def base_python() -> str:
    """The file of the interpreter itself, not a link to it.

    If the system's Python becomes another one, the environment is then recognized as broken. With a link, it would look
    for its packages in the wrong place.
    """
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def site_packages(venv: Path) -> Path:
    """Where an environment made by this interpreter keeps its packages."""
    return Path(sysconfig.get_path("purelib", scheme="venv", vars={"base": str(venv), "platbase": str(venv)}))


if __name__ == "__main__":
    sys.exit(main())
