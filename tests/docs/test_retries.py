"""The programs on the page about clients count once over lost answers, and stop where sending again is useless."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.clients.proxy import Cut, opened
from tests.clients.tools import find
from tests.docs.pages import blocks
from tests.harness.cluster import loopback_nodes, running
from tests.harness.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "clients.md"
PROGRAMS = {block.note: block.text for block in blocks(PAGE.read_text("utf-8"), PAGE.name) if block.mark == "file"}
COMMANDS = {
    "increment.sh": ["sh"],
    "increment.py": [sys.executable, "-B"],
    "increment.js": ["node"],
    "increment.go": ["go", "run"],
}
NEEDS = {"increment.sh": ("curl", "curl"), "increment.js": ("node", "nodejs"), "increment.go": ("go", "golang-go")}
MISSING = {
    name: f"{program} not installed (Debian: {package})"
    for name, (program, package) in NEEDS.items()
    if find(program) is None
}
ADDRESSES = [f"127.0.0.{number}:7777" for number in (1, 2, 3)]


def test_the_page_has_no_other_programs() -> None:
    assert PROGRAMS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_a_program_for_each_client(name: str) -> None:
    """Skipped for a language that is missing: the tests below then leave its program out."""
    assert all(PROGRAMS[name].count(address) == 1 for address in ADDRESSES)
    if name in MISSING:
        pytest.skip(MISSING[name])


async def test_each_program_counts_once_though_an_answer_is_lost_and_a_node_refuses(tmp_path: Path) -> None:
    first, second = nodes = loopback_nodes(tmp_path, 2)
    found = [name for name in COMMANDS if name not in MISSING]
    async with running(*nodes, configured=True), answering(503) as refuses:

        async def count(name: str) -> None:
            async with opened(first.port) as road:
                road.next = Cut.END
                done = await run(name, tmp_path, [f"127.0.0.1:{road.port}", refuses, f"{second.host}:{second.port}"])
            assert 1 <= int(done.stdout) <= len(found)
            assert road.cuts == 1

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for name in found:
                    nursery.start_soon(count, name)
        assert (await first.consistent("orders")).number() == len(found)


async def test_each_program_ends_and_shows_why_when_sending_again_is_useless(tmp_path: Path) -> None:
    async with answering(410) as refuses:

        async def stop(name: str) -> None:
            done = await run(name, tmp_path, [refuses] * 3)
            assert done.returncode != 0
            assert "because of 410" in done.stderr.decode()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for name in COMMANDS.keys() - MISSING.keys():
                    nursery.start_soon(stop, name)


async def run(name: str, base: Path, nodes: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the page with other addresses of nodes, in a folder of its own."""
    folder = base / name.replace(".", "-")
    folder.mkdir()
    text = PROGRAMS[name]
    for written, node in zip(ADDRESSES, nodes, strict=True):
        text = text.replace(written, node)
    (folder / name).write_text(text, "utf-8")
    program, *flags = COMMANDS[name]
    return await trio.run_process(
        [find(program) or program, *flags, name], cwd=folder, capture_stdout=True, capture_stderr=True, check=False
    )


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    """An address at which every increment is refused with one status."""

    async def refuse(stream: trio.SocketStream) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n1"):
            data = await stream.receive_some()
            if not data:
                return
            request += data
        reason = b"because of %d" % status
        head = b"HTTP/1.1 %d No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(reason))
        await stream.send_all(head + reason)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
