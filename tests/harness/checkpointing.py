"""A node that makes checkpoints all the time, of a few records each: what takes hours comes every few seconds."""

import re
import sys
from pathlib import Path

from tests.harness.processes import REPOSITORY, Node

# The product, but for some sizes. It also tells of its start at once.
_LAUNCHER = """#!{python} -P
import sys
sys.path.insert(0, {repository!r})
from gcount.__main__ import main
from gcount.core import checkpoint
from gcount.storage import checkpoints, log, progress
log.SEGMENT_BYTES, checkpoints.FLOOR_BYTES, checkpoints.FACTOR = 8_000, 16_000, 0.0
checkpoint.CELLS_A_RECORD = checkpoint.NAMES_A_RECORD = 64
progress.EVERY = 0.0
sys.exit(main(sys.argv[1:]))
"""
_MADE = re.compile(r" checkpoint +counters=")


def write_launcher(folder: Path) -> Path:
    """Put the launcher of such nodes into a folder."""
    launcher = folder / "gcount-node"
    launcher.write_text(_LAUNCHER.format(python=sys.executable, repository=str(REPOSITORY)))
    launcher.chmod(0o755)
    return launcher


def unfinished(folder: Path) -> bool:
    """Whether a checkpoint is being made in a data directory, or was when the node ended."""
    return any(file.name.endswith(".checkpoint.new") for file in folder.iterdir())


def made(node: Node) -> int:
    """How many checkpoints a node has made in all of its lives."""
    return len(_MADE.findall(node.stderr(whole=True)))
