"""What a node that starts on a stored directory answers; the same look for the recording and for the test of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.harness.cluster import configure
from tests.harness.processes import LAUNCHER, Node
from tests.harness.waiting import eventually

CLUSTER = "compatibility"  # no other test's node talks to these
RULES = ("node", "incarnation", "incarnations_known", "incarnations_limit", "two_histories", "cluster")
SHOWN = (*RULES, "id", "ready", "not_ready_because", "counters", "version", "membership")
AMOUNT = 1000


def node_on(folder: Path, host: str = "127.0.0.1", port: int = 0) -> Node:
    """A node of that cluster that is not started yet."""
    return Node(1, host, port, folder, flags=("--cluster", CLUSTER), env={"CHALLENGE_TIMEOUT": "5"})


def gcount(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What an offline tool says."""
    command = [LAUNCHER.parent / "gcount", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def target(name: str) -> str:
    return quote(name, safe="")


async def status(node: Node) -> dict[str, Any]:
    document: dict[str, Any] = (await node.get("/status")).json()
    return document


async def observe(node: Node, names: Iterable[str], acknowledged: Mapping[str, int]) -> dict[str, Any]:
    """All that a node answers which has just started on a copy of a stored directory.

    Args:
        node: at a port that no membership names, so that it reaches none of its members.
        names: counters.
        acknowledged: what each has to be once the node is its only member.
    """
    before = await status(node)
    seen = {
        "status": {each: before[each] for each in SHOWN},
        "log": {each: before["log"][each] for each in ("bytes", "segments")},
        "checkpoint bytes": before["checkpoint"]["bytes"],
        "values": {name: await node.value(target(name)) for name in names},
        "consistent": {name: await _consistent(node, name) for name in names},
    }
    first = next(iter(names))
    seen["value after an increment"] = await node.add(target(first), AMOUNT)
    after = await status(node)
    seen["goes on under its incarnation"] = after["incarnation"] == before["incarnation"]
    seen["goes on as the node"] = after["node"] == before["node"]
    seen["incarnations after an increment"] = after["incarnations_known"]
    await configure(node, [node])
    expected = {**acknowledged, first: acknowledged[first] + AMOUNT}

    async def check() -> str | None:
        values = {name: await node.value(target(name)) for name in expected}
        return None if values == expected else f"{values}, not {expected}"

    await eventually(check, within=20)
    for name, total in expected.items():
        assert (await node.consistent(target(name))).number() == total
    return seen


async def _consistent(node: Node, name: str) -> Any:
    answer = await node.consistent(target(name), timeout=5 if not (await node.config())["actors"] else 0.2)
    if answer.status == 200:
        return answer.number()
    document = answer.json()
    return {"status": answer.status, "value": document["value"], "missing": sorted(document["missing"])}
