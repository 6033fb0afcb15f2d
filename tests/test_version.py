"""The version that a node, a command and a build report: from the package's metadata, or from git's files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gcount.version import NUMBER, VERSION, find

PLAIN = "1.2.dev0"


def git(folder: Path, *command: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main")
    nobody = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *identity, *command], cwd=folder, env=nobody, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    git(folder, "commit", "--allow-empty", "-m", "first")
    return folder


def expected(folder: Path) -> str:
    return f"{PLAIN}+g{git(folder, 'rev-parse', 'HEAD')[:10]}"


def test_a_source_tree_names_its_commit(repository: Path) -> None:
    assert find(repository, PLAIN) == expected(repository)
    git(repository, "commit", "--allow-empty", "-m", "second")
    second = find(repository, PLAIN)
    assert second == expected(repository)
    git(repository, "checkout", "--detach", "HEAD~1")
    assert find(repository, PLAIN) == expected(repository) != second


def test_packed_branches_and_worktrees_name_their_commit(repository: Path) -> None:
    git(repository, "worktree", "add", "-b", "feature/x", "../worktree")
    worktree = repository.parent / "worktree"
    git(worktree, "commit", "--allow-empty", "-m", "elsewhere")
    assert find(worktree, PLAIN) == expected(worktree) != expected(repository)
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "feature").exists()
    assert find(worktree, PLAIN) == expected(worktree)
    assert find(repository, PLAIN) == expected(repository)


def test_a_repository_without_a_commit_is_the_plain_version(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(tmp_path, "init")
    assert find(tmp_path, PLAIN) == PLAIN


@pytest.mark.parametrize("head", ["", "ref: refs/heads/none", "ref: ../secret", "g" * 40, "abc", "0" * 40 + "\nmore"])
def test_git_files_that_cannot_be_read_are_the_plain_version(head: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("anything")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(head)
    assert find(tmp_path, PLAIN) == PLAIN
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert find(tmp_path, PLAIN) == PLAIN


def test_only_versions_that_are_no_release_name_a_commit(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("0123456789abcdef0123456789abcdef01234567\n")
    assert find(tmp_path, "1.2.dev0") == "1.2.dev0+g0123456789"
    assert find(tmp_path, "1.2") == "1.2"


def test_an_installed_package_has_the_version_of_its_metadata(tmp_path: Path) -> None:
    assert find(tmp_path, PLAIN) == PLAIN, "another folder's metadata is not taken"
    info = tmp_path / "gcount-9.8.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: gcount\nVersion: 9.8.7+gabc\n")
    assert find(tmp_path, PLAIN) == "9.8.7+gabc"


def test_this_version_is_its_number_and_maybe_a_commit() -> None:
    assert re.fullmatch(re.escape(NUMBER) + r"(\+g[0-9a-f]{10})?", VERSION)
