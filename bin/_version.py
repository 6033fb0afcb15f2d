"""The version of a wheel or a source archive. hatchling calls this, see pyproject.toml."""

import subprocess
from pathlib import Path

from gcount.version import find


def of_build() -> str:
    """The source tree's version. It ends in ".dirty" if the files differ from those of the commit that it names."""
    root = Path(__file__).resolve().parent.parent
    version = find(root)
    if "+" not in version:
        return version
    command = ["git", "-C", str(root), "status", "--porcelain"]
    try:
        changed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or one that does not trust the folder's owner
        return version
    return f"{version}.dirty" if changed else version
