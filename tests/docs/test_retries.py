"""The programs on the page about clients count once, and pass over a node that does not answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from tests.clients.servers import needs
from tests.clients.tools import find
from tests.docs.pages import blocks
from tests.harness.cluster import loopback_nodes, running
from tests.harness.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "clients.md"
PROGRAMS = {block.note: block.text for block in blocks(PAGE.read_text("utf-8"), PAGE.name) if block.mark == "file"}
COMMANDS = {"increment.sh": ["sh"], "increment.py": [sys.executable, "-B"], "increment.js": ["node"]}


def test_the_page_has_a_program_for_each_client() -> None:
    assert PROGRAMS.keys() == {*COMMANDS, "increment.go"}


@needs("node", "nodejs")
@needs("curl", "curl")
async def test_each_program_counts_once_though_the_first_node_is_away(tmp_path: Path) -> None:
    _, node = loopback_nodes(tmp_path, 2)
    answers: list[int] = []

    async def run(name: str) -> None:
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text(PROGRAMS[name].replace("7777", str(node.port)), "utf-8")
        program, *flags = COMMANDS[name]
        command = [find(program) or program, *flags, name]
        done = await trio.run_process(command, cwd=folder, capture_stdout=True, stderr=subprocess.STDOUT)
        answers.append(int(done.stdout))

    async with running(node):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for name in COMMANDS:
                    nursery.start_soon(run, name)
        assert sorted(answers) == [1, 2, 3]
        assert await node.value("orders") == 3
