"""The version of gcount: from the metadata of an installed package, or from the commit of a source tree.

A node needs its version at each start, for its first log line. So nothing here runs git, or imports a module that a
start would not import anyway.
"""

import re
from pathlib import Path
from typing import Final

# A release has this number alone. A build on the way to it also names its commit.
NUMBER: Final = "0.2.0.dev0"
_HASH_DIGITS: Final = 10


def find(root: Path, number: str = NUMBER) -> str:
    """The version of the package in a folder.

    Args:
        root: the folder in which the package is: a source tree, or the site-packages of an environment.
        number: the number of the next release of the source tree.

    Returns:
        A version of PEP 440. The version of a source tree names its commit, if git's files have it. It does not say
        whether files were edited since that commit.
    """
    commit = _commit(root)
    if commit is not None:
        return f"{number}+g{commit[:_HASH_DIGITS]}" if ".dev" in number else number
    return _installed(root) or number


def _installed(root: Path) -> str | None:
    """The version in the metadata beside an installed package; None without metadata."""
    from importlib.metadata import Distribution  # imported here: it is slow, and a source tree does not need it

    return next((found.version for found in Distribution.discover(name="gcount", path=[str(root)])), None)


def _commit(root: Path) -> str | None:
    """The commit that a source tree has checked out, in hexadecimal digits; None if git's files do not have it."""
    try:
        git = root / ".git"
        if git.is_file():  # a worktree, or a submodule
            git = root / git.read_text("utf-8").removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text("utf-8").strip()
        commit = _of_branch(git, head.removeprefix("ref: ")) if head.startswith("ref: ") else head
    except (OSError, ValueError):
        return None
    return commit if re.fullmatch(r"[0-9a-f]{40,64}", commit) else None


def _of_branch(git: Path, branch: str) -> str:
    """The commit of a branch; empty if it has none yet. Git keeps it in a file of its own, or in `packed-refs`."""
    shared = git / "commondir"  # all worktrees of a repository share its branches
    if shared.is_file():
        git = git / shared.read_text("utf-8").strip()
    alone = git / branch
    if alone.is_file():
        return alone.read_text("utf-8").strip()
    packed = (git / "packed-refs").read_text("utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {branch}")), "")


VERSION: Final = find(Path(__file__).resolve().parent.parent)
