"""Redis libraries of others, in releases beside the one that the tests have anyway: see docs/testing.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.tools import find, install_npm, install_pip
from tests.harness.cluster import running
from tests.process.test_redis_clients import PIPELINES, PROGRAMS, check_pipelines, one_node, run

ONLY_GROW = "ERR SET is not possible"


@pytest.mark.parametrize(
    ("package", "module"), [("redis==4.6.*", "redis"), ("redis==6.4.*", "redis"), ("valkey", "valkey")]
)
async def test_pipelines_of_python(tmp_path: Path, package: str, module: str) -> None:
    environment = install_pip(tmp_path / "packages", package)
    node = one_node(tmp_path)
    async with running(node):
        check_pipelines(json.loads(await run(*PIPELINES, module, node.port, 50_000, env=environment)))


@pytest.mark.parametrize("release", ["ioredis@5", "ioredis@4"])
async def test_ioredis(tmp_path: Path, release: str) -> None:
    environment = install_npm(tmp_path / "packages", release)
    node = one_node(tmp_path)
    async with running(node):
        program = PROGRAMS / "ioredis_pipelines.js"
        assert json.loads(await run(find("node", "nodejs"), program, node.port, env=environment)) == {
            "single": [1, 42, "42", None],
            "pipeline": True,
            "mget": ["42", "50000", None],
            "scan": ["js", "many"],
            "refused": ONLY_GROW,
            "consistent": [42, 0],
            "multi": [[None, 1], [None, 6], [None, "6"]],
            "wrong": "EXECABORT Transaction discarded because of previous errors.",
            "after": "6",
            "discarded": ["OK", "6"],
            "watch": "ERR WATCH is not possible",
            "info": True,
        }


@pytest.mark.parametrize("release", ["redis@5", "redis@4"])
async def test_node_redis(tmp_path: Path, release: str) -> None:
    environment = install_npm(tmp_path / "packages", release)
    node = one_node(tmp_path)
    async with running(node):
        program = PROGRAMS / "node_redis_pipelines.js"
        found = json.loads(await run(find("node", "nodejs"), program, node.port, env=environment))
        assert found.pop("wrong").startswith((ONLY_GROW, "EXECABORT"))
        found["info"] = found["info"][:2]  # older ones do not know the rest
        assert found == {
            "single": [1, 42, "42", None],
            "pipeline": True,
            "multi": [1, 6, "6"],
            "after": "6",
            "asPipeline": [1, 2],
            "refused": ONLY_GROW,
            "keys": ["js", "m", "many", "p"],
            "info": [0, "default"],
            "ttl": [-1, -2],
        }
