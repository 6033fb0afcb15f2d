"""A node that makes checkpoints all the time, with a few records in each: every few seconds instead of hours."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.harness.processes import REPOSITORY, Node
from tests.harness.resp import RespConnection, encoded
from tests.harness.waiting import eventually

# The product with some other sizes. It also logs the progress of its start at once.
_LAUNCHER = """#!{python} -P
import sys
sys.path.insert(0, {repository!r})
from gcount.cli.node import main
from gcount.core.options import Options
options = Options(
    segment_bytes=8_000,
    checkpoint_floor_bytes=16_000,
    checkpoint_factor=0.0,
    record_cells=64,
    record_names=64,
    progress_interval=0.0,
    id_span=1,
)
sys.exit(main(sys.argv[1:], options=options))
"""
_MADE = re.compile(r" checkpoint +counters=")


def write_launcher(folder: Path) -> Path:
    """Write the launcher of such nodes into a folder."""
    launcher = folder / "gcount-node"
    launcher.write_text(_LAUNCHER.format(python=sys.executable, repository=str(REPOSITORY)))
    launcher.chmod(0o755)
    return launcher


def unfinished(folder: Path) -> bool:
    """Whether a checkpoint is being made in a data directory, or was when the node ended."""
    return any(file.name.endswith(".checkpoint.new") for file in folder.iterdir())


def made(node: Node) -> int:
    """How many checkpoints a node has made since its first start."""
    return len(_MADE.findall(node.stderr(whole=True)))


async def count_all(node: Node, names: Sequence[str]) -> None:
    """Increment each of many counters by 1, so that a checkpoint takes a while."""
    async with await trio.open_tcp_stream(node.host, node.port) as stream:
        commands = b"".join(encoded("INCR", name) for name in names)
        assert await RespConnection(stream.socket).exchange(commands, len(names)) == [1] * len(names)


async def pause_in_the_midst(node: Node, folder: Path) -> None:
    """Stop a node under load (SIGSTOP) while it makes a checkpoint, so that it can be killed during the checkpoint."""

    async def stopped() -> str | None:
        states = _thread_states(node)
        return None if states == {"T"} else f"its threads are {states}"

    async def caught() -> str | None:
        node.pause()
        await eventually(stopped, within=10)
        if unfinished(folder):
            return None
        node.resume()
        return f"no checkpoint is being made:\n{node.stderr()}"

    await eventually(caught, within=20)


def _thread_states(node: Node) -> set[str]:
    """The states of a node's threads, as the kernel reports them; T is stopped."""
    assert node.process is not None
    tasks = Path(f"/proc/{node.process.pid}/task").iterdir()
    return {(task / "stat").read_text().rpartition(") ")[2][0] for task in tasks}
