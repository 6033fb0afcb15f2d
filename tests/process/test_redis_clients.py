"""Third-party Redis clients with nodes that are started as a user starts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.harness.cluster import eventually, loopback_nodes, running
from tests.harness.processes import Node

T = TypeVar("T")

CLI = shutil.which("redis-cli")
BENCHMARK = shutil.which("redis-benchmark")
needs_cli = pytest.mark.skipif(CLI is None, reason="redis-cli is not installed (Debian: redis-tools)")
needs_benchmark = pytest.mark.skipif(BENCHMARK is None, reason="redis-benchmark is not installed (Debian: redis-tools)")

PROGRAMS = Path(__file__).resolve().parents[1] / "clients" / "programs"
PIPELINES = (sys.executable, "-B", PROGRAMS / "pipelines.py")


def one_node(base: Path) -> Node:
    return Node(1, "127.0.0.1", 0, base / "data")


async def in_thread(work: Callable[[], T]) -> T:
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


async def run(*command: object, input: str = "", env: dict[str, str] | None = None, succeeds: bool = True) -> str:
    """Run a command, which has to succeed unless it may fail; returns its output."""
    with trio.fail_after(240):
        ended = await trio.run_process(
            [str(word) for word in command],
            stdin=input.encode(),
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env=env,
            check=succeeds,
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


async def test_increments_acknowledged_to_redis_py_survive_kill_9(tmp_path: Path) -> None:
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


async def test_a_transaction_is_counted_as_a_whole_or_not_at_all_at_kill_9(tmp_path: Path) -> None:
    done: list[int] = []

    def work() -> None:
        client: Any = redis.Redis(port=node.port, retry=Retry(NoBackoff(), 0))  # else it sends again what was counted
        with client, suppress(redis.ConnectionError):
            while True:
                answers = client.pipeline().incr("x").incrby("y", 2).incr("x").execute()
                done.append(answers[-1])

    async def many(number: int) -> str | None:
        return None if len(done) >= number else f"{len(done)} transactions"

    node = one_node(tmp_path)
    async with running(node):
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_thread, work)
                await eventually(partial(many, len(done) + 100), 60)
                node.kill9()
            await node.start()
            value = await node.value("x")
            assert value == await node.value("y")
            assert done[-1] <= value <= done[-1] + 2


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
    """Its figures are not judged here, but every answer has to be a success."""
    node = one_node(tmp_path)
    async with running(node):
        said = await run(BENCHMARK, "-p", str(node.port), "-t", "incr", "-n", "3000", "-c", "8", *options)
        assert re.search(r"30\d\d requests completed", said)
        assert "error" not in said.lower()
        count = (await node.get("/metrics")).body.decode()
        assert 'gcount_redis_commands_total{command="INCR",outcome="ok"} 3' in count


@needs_benchmark
async def test_redis_benchmark_with_its_defaults(tmp_path: Path) -> None:
    """Two tests run, one of them of commands as one types them; the third asks for SET, and is told why not."""
    node = one_node(tmp_path)
    async with running(node):
        said = await run(BENCHMARK, "-p", node.port, "-n", "2000", succeeds=False)
        assert said.count("2000 requests completed") == 2
        assert "Error from server: ERR SET is not possible: counters only grow" in said
        possible = await run(BENCHMARK, "-p", node.port, "-n", "2000", "-q", "-t", "ping,get,incr")
        for name in ("PING_INLINE", "PING_MBULK", "GET", "INCR"):
            assert re.search(rf"{name}: [0-9.]+ requests per second", possible)


def check_pipelines(found: dict[str, dict[str, Any]]) -> None:
    """Check the output of programs/pipelines.py."""
    blocking = found["blocking"]
    assert "SET is not possible" in blocking.pop("wrong")
    assert "WATCH is not possible" in blocking.pop("watch")
    refusal = "not executed: too many answers wait; read them while you send commands"
    assert [each.removeprefix("ERR ") for each in blocking["too much at once"][2:]] == [refusal]
    assert blocking.pop("too much at once")[:2] == [True, True]
    assert blocking == {
        "transaction": [1, 6, "6", ["6", None]],
        "wrong, after": None,
        "again": [1],
        "a long transaction": True,
        "a long pipeline": True,
        "too much at once, after": True,
        "watch, after": True,
        "watch, again": 1,
    }
    assert found["asyncio"] == {"transactions at once": True, "a long pipeline": True}


async def test_pipelines_of_redis_py(tmp_path: Path) -> None:
    """By default they are transactions. What is too much at once is refused with its number known."""
    node = one_node(tmp_path)
    async with running(node):
        check_pipelines(json.loads(await run(*PIPELINES, "redis", node.port, 150_000)))
        assert await node.value("piped") == 150_000
        assert await node.metric('gcount_redis_commands_total{command="EXEC",outcome="ok"}') > 20


@needs_cli
async def test_redis_cli_pipe(tmp_path: Path) -> None:
    typed = "".join(f"INCR typed{number % 10}\r\n" for number in range(5_000))
    encoded = "*3\r\n$6\r\nINCRBY\r\n$3\r\nraw\r\n$1\r\n2\r\n" * 5_000
    node = one_node(tmp_path)
    async with running(node):
        for mass, replies in ((typed, 5_000), (encoded, 5_000), ("\n\nINCR 'a b'\n\n", 1), ("", 0)):
            assert f"errors: 0, replies: {replies}" in await run(CLI, "-p", node.port, "--pipe", input=mass)
        assert [await node.value(name) for name in ("typed3", "raw", "a%20b")] == [500, 10_000, 1]
        said = await run(CLI, "-p", node.port, "--pipe", input="SET x 1\nINCR x\n", succeeds=False)
        assert "errors: 1, replies: 2" in said


@needs_cli
async def test_the_output_of_redis_cli(tmp_path: Path) -> None:
    node = one_node(tmp_path)
    async with running(node):
        asked = "incrby views 5\nttl views\npttl none\nrole\nkeys v*\ncommand getkeys mget a b\nslowlog len\nmulti\n"
        asked += "incr views\nget views\nexec\nmulti\nincr views\ndiscard\nget views\nauth secret\n"
        said = [each for each in (await run(CLI, "-p", node.port, input=asked)).splitlines() if each]
        assert said == [
            *("5", "-1", "-2", "master", "0", "views", "a", "b", "0"),
            *("OK", "QUEUED", "QUEUED", "6", "6", "OK", "QUEUED", "OK", "6"),
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?",
        ]
        assert "cmd=client" in await run(CLI, "-p", node.port, "client", "list")
        assert "Sampled 1 keys" in await run(CLI, "-p", node.port, "--bigkeys")
        assert "Sampled 1 keys" in await run(CLI, "-p", node.port, "--memkeys")
        stat = await run("timeout", "2", "stdbuf", "-oL", CLI, "-p", node.port, "--stat", succeeds=False)
        assert re.search(r"^1 +[0-9.]+M +1 +0 +[0-9]+ \(\+0\) +[0-9]+ *$", stat, re.MULTILINE)
