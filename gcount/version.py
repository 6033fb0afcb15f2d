"""Which gcount this is: the version in the package's metadata, or the commit that a source tree has checked out.

Nothing here runs git or imports what a start does not need anyway: a node reports its version in its first log line.
"""

import re
from pathlib import Path
from typing import Final

# A release is its number alone. Whatever is built on the way to it also names the commit that it was made of.
NUMBER: Final = "0.2.0.dev0"
_HASH_DIGITS: Final = 10


def find(root: Path, number: str = NUMBER) -> str:
    """The version of the package in a folder.

    Args:
        root: the folder that holds the package: a source tree, or an environment's site-packages.
        number: the version that the source tree's files are on the way to.

    Returns:
        A version as PEP 440 defines it. A source tree's names the commit, where git's files tell it; it does not say
        whether files were edited since.
    """
    commit = _commit(root)
    if commit is not None:
        return f"{number}+g{commit[:_HASH_DIGITS]}" if ".dev" in number else number
    return _installed(root) or number


def _installed(root: Path) -> str | None:
    """The version in the metadata beside an installed package; None where there is none."""
    from importlib.metadata import Distribution  # slow, and a source tree does without

    return next((found.version for found in Distribution.discover(name="gcount", path=[str(root)])), None)


def _commit(root: Path) -> str | None:
    """The commit that a source tree has checked out, in hexadecimal digits; None where no file tells it."""
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
    """The commit of a branch; empty if there is none yet. Git keeps it in a file of its own or packed with others."""
    shared = git / "commondir"  # all worktrees of a repository share its branches
    if shared.is_file():
        git = git / shared.read_text("utf-8").strip()
    alone = git / branch
    if alone.is_file():
        return alone.read_text("utf-8").strip()
    packed = (git / "packed-refs").read_text("utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {branch}")), "")


VERSION: Final = find(Path(__file__).resolve().parent.parent)
