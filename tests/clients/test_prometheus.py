"""Prometheus' own tool finds nothing wrong with a node's metrics."""

from __future__ import annotations

import subprocess
from pathlib import Path

import trio

from tests.clients.servers import needs
from tests.clients.tools import find
from tests.harness.cluster import loopback_nodes, running


@needs("promtool", "prometheus")
async def test_promtool_finds_nothing_wrong_with_the_metrics(tmp_path: Path) -> None:
    (node,) = loopback_nodes(tmp_path, 1)
    async with running(node):
        await node.add("a", 1)
        figures = (await node.get("/metrics")).body
    command = [find("promtool") or "", "check", "metrics"]
    checked = await trio.run_process(command, stdin=figures, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    assert (checked.returncode, checked.stdout) == (0, b"")
