"""Third-party Redis libraries, in more releases than the one in the tests' environment: see docs/testing.md."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.clients.tools import install_npm, install_pip, skipping
from tests.harness.cluster import running
from tests.process.test_redis_clients import PIPELINES, PROGRAMS, check_pipelines, one_node, run

ONLY_GROW = "ERR SET is not possible"


@pytest.fixture
def python(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment with a package of Python."""
    with skipping():
        return {**os.environ, **install_pip(tmp_path / "packages", request.param)}


@pytest.fixture
def node_js(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment with a package of node.js."""
    with skipping():
        return {**os.environ, **install_npm(tmp_path / "packages", request.param)}


@pytest.mark.parametrize(
    ("python", "module"),
    [("redis==4.6.*", "redis"), ("redis==6.4.*", "redis"), ("valkey", "valkey")],
    indirect=["python"],
)
async def test_pipelines_of_python(tmp_path: Path, python: dict[str, str], module: str) -> None:
    node = one_node(tmp_path)
    async with running(node):
        check_pipelines(json.loads(await run(*PIPELINES, module, node.port, 50_000, env=python)))


@pytest.mark.parametrize("node_js", ["ioredis@5", "ioredis@4"], indirect=True)
async def test_ioredis(tmp_path: Path, node_js: dict[str, str]) -> None:
    node = one_node(tmp_path)
    async with running(node):
        program = PROGRAMS / "ioredis_pipelines.js"
        assert json.loads(await run("node", program, node.port, env=node_js)) == {
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


@pytest.mark.parametrize("node_js", ["redis@5", "redis@4"], indirect=True)
async def test_node_redis(tmp_path: Path, node_js: dict[str, str]) -> None:
    node = one_node(tmp_path)
    async with running(node):
        program = PROGRAMS / "node_redis_pipelines.js"
        found = json.loads(await run("node", program, node.port, env=node_js))
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
