"""Clients that others wrote for Redis, against nodes as a user starts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import trio

from tests.harness.cluster import loopback_nodes, running
from tests.harness.processes import Node

T = TypeVar("T")

CLI = shutil.which("redis-cli")
BENCHMARK = shutil.which("redis-benchmark")
needs_cli = pytest.mark.skipif(CLI is None, reason="redis-cli is not installed (Debian: redis-tools)")
needs_benchmark = pytest.mark.skipif(BENCHMARK is None, reason="redis-benchmark is not installed (Debian: redis-tools)")

IOREDIS = """
const Redis = require("ioredis");
(async () => {
  const client = new Redis(Number(process.argv[1]), "127.0.0.1", {maxRetriesPerRequest: 0});
  const found = [];
  found.push(await client.incr("js"), await client.incrby("js", 41), await client.get("js"), await client.get("none"));
  const batch = client.pipeline();
  for (let n = 0; n < 100; n++) batch.incr("many");
  found.push((await batch.exec()).map(([, answer]) => answer).join() ===
    Array.from({length: 100}, (_, n) => n + 1).join());
  found.push(await client.mget("js", "many", "none"));
  const names = [];
  for await (const some of client.scanStream({match: "*"})) names.push(...some);
  found.push(names.sort());
  found.push(await client.set("js", 1).catch((error) => error.message.split(":")[0]));
  found.push(await client.call("GCOUNT.CONSISTENT", "js"), await client.wait(0, 100));
  console.log(JSON.stringify(found));
  await client.quit();
})().catch((error) => { console.error(error); process.exit(1); });
"""


def one_node(base: Path) -> Node:
    return Node(1, "127.0.0.1", 0, base / "data")


async def in_thread(work: Callable[[], T]) -> T:
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


async def run(*command: str | None, input: str = "", env: dict[str, str] | None = None) -> str:
    """What a command prints; it has to succeed."""
    with trio.fail_after(120):
        ended = await trio.run_process(
            [str(word) for word in command],
            stdin=input.encode(),
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env=env,
        )
    return ended.stdout.decode()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py(tmp_path: Path, protocol: int) -> None:
    def work() -> None:
        client: Any = redis.Redis(port=node.port, protocol=protocol, decode_responses=True, client_name="me")
        with client:
            assert client.ping()
            assert [client.incr("x"), client.incrby("x", 41), client.get("x"), client.get("y")] == [1, 42, "42", None]
            assert client.client_getname() == "me"
            assert client.mget("x", "y") == ["42", None]
            assert (client.exists("x", "y"), client.type("x"), client.strlen("x"), client.dbsize()) == (
                1,
                "string",
                2,
                1,
            )
            pipe = client.pipeline(transaction=False)
            for number in range(10_000):
                pipe.incr(f"n{number % 100}")
            assert pipe.execute() == [1 + number // 100 for number in range(10_000)]
            assert sorted(client.scan_iter(match="n*", count=7)) == sorted(f"n{number}" for number in range(100))
            big = client.incrby("big", 2**64 - 1)
            assert int(big) == 2**64 - 1
            assert client.execute_command("GCOUNT.CONSISTENT", "x") == 42
            assert client.wait(0, 10) == 0
            assert client.info()["redis_version"]
            assert client.config_get("save") == {"save": ""}
            assert client.command_count() > 10
            for refused in (["DECR", "x"], ["SET", "x", 1], ["DEL", "x"]):
                with pytest.raises(redis.ResponseError, match="only grow"):
                    client.execute_command(*refused)

    node = one_node(tmp_path)
    async with running(node):
        await in_thread(work)
        assert await node.value("x") == 42


async def test_redis_py_from_many_threads_gets_every_answer_once(tmp_path: Path) -> None:
    answers: list[int] = []

    def work() -> None:
        client: Any = redis.Redis(port=node.port)
        with client:
            for _ in range(20):
                pipe = client.pipeline(transaction=False)
                for _ in range(10):
                    pipe.incr("hot")
                answers.extend(pipe.execute())
                answers.append(client.incr("hot"))

    node = one_node(tmp_path)
    async with running(node):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(in_thread, work)
        assert sorted(answers) == list(range(1, 8 * 20 * 11 + 1))


async def test_wait_counts_the_members_that_have_it_on_disk(tmp_path: Path) -> None:
    def work(members: int, milliseconds: int) -> int:
        client: Any = redis.Redis(host=nodes[0].host, port=nodes[0].port)
        with client:
            client.incr("x")
            return int(client.wait(members, milliseconds))

    nodes = loopback_nodes(tmp_path, 3)
    async with running(*nodes, configured=True):
        assert await in_thread(lambda: work(2, 20_000)) == 2
        nodes[2].kill9()
        assert await in_thread(lambda: work(1, 20_000)) >= 1
        assert await in_thread(lambda: work(2, 300)) == 1
        nodes[1].kill9()
        nodes[0].kill9()
        await nodes[1].start()
        await nodes[2].start()
        assert await nodes[1].value("x") >= 2  # what was waited for is on another member's disk


async def test_what_redis_py_was_answered_survives_kill_9(tmp_path: Path) -> None:
    def work() -> int:
        client: Any = redis.Redis(port=node.port)
        with client:
            pipe = client.pipeline(transaction=False)
            for _ in range(1000):
                pipe.incr("x")
            return int(pipe.execute()[-1])

    node = one_node(tmp_path)
    async with running(node):
        assert await in_thread(work) == 1000
        node.kill9()
        await node.start()
        assert await node.value("x") == 1000


@needs_cli
async def test_redis_cli(tmp_path: Path) -> None:
    node = one_node(tmp_path)
    async with running(node):
        asked = "incrby views 5\nincr views\nget views\nget none\ntype views\nset views 1\ngcount.consistent views\n"
        said = (await run(CLI, "-p", str(node.port), input=asked)).splitlines()
        assert [each for each in said if each] == [
            "5",
            "6",
            "6",
            "string",
            "ERR SET is not possible: counters only grow; nothing is ever subtracted, set or deleted",
            "6",
        ]
        assert "server gcount" in (await run(CLI, "-3", "-p", str(node.port), "hello", "3"))
        assert (await run(CLI, "-p", str(node.port), "--scan")).split() == ["views"]


@needs_benchmark
@pytest.mark.parametrize("options", [["-P", "32"], ["-P", "16", "-r", "1000"], []])
async def test_redis_benchmark(tmp_path: Path, options: list[str]) -> None:
    """Its figures are not judged here; every answer has to be one."""
    node = one_node(tmp_path)
    async with running(node):
        said = await run(BENCHMARK, "-p", str(node.port), "-t", "incr", "-n", "3000", "-c", "8", *options)
        assert re.search(r"30\d\d requests completed", said)
        assert "error" not in said.lower()
        count = (await node.get("/metrics")).body.decode()
        assert 'gcount_redis_commands_total{command="INCR",outcome="ok"} 3' in count


@pytest.fixture(scope="module")
def ioredis(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which node.js finds ioredis."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node.js and npm are not installed")
    folder = tmp_path_factory.mktemp("ioredis")
    install = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--fetch-retries=0", "ioredis@5"]
    try:
        done = subprocess.run(install, capture_output=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install ioredis in time")
    if done.returncode != 0:
        pytest.skip("npm could not install ioredis")
    return {"NODE_PATH": str(folder / "node_modules")}


async def test_ioredis(tmp_path: Path, ioredis: dict[str, str]) -> None:
    node = one_node(tmp_path)
    async with running(node):
        said = await run(shutil.which("node"), "-e", IOREDIS, str(node.port), env=ioredis)
        assert json.loads(said) == [
            1,
            42,
            "42",
            None,
            True,
            ["42", "100", None],
            ["js", "many"],
            "ERR SET is not possible",
            42,
            0,
        ]
