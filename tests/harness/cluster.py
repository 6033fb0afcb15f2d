"""Several nodes as one cluster: starting them, configuring them, waiting until they agree."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.harness.client import NoAnswer, NotSent, Response, once
from tests.harness.namespaces import Network
from tests.harness.processes import Node, show
from tests.harness.waiting import eventually as eventually


def has_ipv6() -> bool:
    """Whether this machine has IPv6 on its loopback device."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def is_free(hosts: Sequence[str], port: int) -> bool:
    for host in hosts:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def ports_of(worker: str, workers: int) -> range:
    """The ports of one of several processes that run tests at once.

    All are below the range of outgoing connections. A free port stays free until the node has started, and is free
    again during each of its restarts. So no two processes may choose the same one.
    """
    return range(10_000 + int(worker.removeprefix("gw")), 30_000, workers)


def free_port(hosts: Sequence[str], prefer: int | None = None) -> int:
    """A port of this process that is free at all of `hosts`. The first process of tests may prefer one."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    if prefer is not None and worker == "gw0" and is_free(hosts, prefer):
        return prefer
    while True:
        port = random.choice(ports_of(worker, int(workers)))
        if is_free(hosts, port):
            return port


def loopback_nodes(
    base: Path,
    count: int = 3,
    *,
    env: Mapping[str, str] | None = None,
    prefer: int | None = None,
    nofile: int | None = None,
) -> list[Node]:
    """Nodes on 127.0.0.1, 127.0.0.2, ... all on one port."""
    hosts = [f"127.0.0.{number}" for number in range(1, count + 1)]
    port = free_port(hosts, prefer)
    return [
        Node(number, host, port, base / f"data-{number}", env=env, nofile=nofile)
        for number, host in enumerate(hosts, start=1)
    ]


def namespace_nodes(base: Path, network: Network, *, env: Mapping[str, str] | None = None) -> list[Node]:
    """One node per host of the network, on the default address 0.0.0.0:7777, as in the challenge."""
    return [
        Node(
            host,
            network.address(host),
            7777,
            base / f"data-{host}",
            listen=None,
            namespace=network.namespace(host),
            client_namespace=network.router,
            env=env,
        )
        for host in network.hosts
    ]


@asynccontextmanager
async def running(*nodes: Node, configured: bool = False) -> AsyncIterator[None]:
    """Start nodes together. In any case kill and reap them at the end, and print their logs after a failure."""
    try:
        for node in nodes:
            node.spawn()
        for node in nodes:
            await node.ready()
        if configured:
            await configure(nodes[0], nodes)
            await spread(nodes)
        yield
    except BaseException:
        show(nodes)
        raise
    finally:
        for node in nodes:
            node.kill9()


async def configure(receiver: Node, members: Sequence[Node]) -> Any:
    """Post the members' addresses, without ports, to one node; returns its answer."""
    body = json.dumps({"actors": [node.host for node in members]}).encode()
    answer = await receiver.post("/config", body)
    assert answer.status == 200, answer
    return answer.json()


def is_entry(entry: object, node: Node) -> bool:
    """Whether an entry of a config, with or without a port, is this node."""
    return entry in (node.host, f"{node.host}:{node.port}")


def has_members(config: Any, me: Node, members: Sequence[Node]) -> bool:
    """Whether a membership names exactly `members`, and its `self` is this node."""
    actors = config["actors"]
    return (
        is_entry(config["self"], me)
        and len(actors) == len(members)
        and all(any(is_entry(entry, node) for entry in actors) for node in members)
    )


async def spread(nodes: Sequence[Node], within: float = 10.0) -> None:
    """Wait until every node knows all of the nodes as members, and itself as one of them."""

    async def check() -> str | None:
        for node in nodes:
            config = await node.config()
            if not has_members(config, node, nodes):
                return f"{node} has {config}"
        return None

    await eventually(check, within)


async def take_ids(nodes: Sequence[Node], within: float = 20.0) -> None:
    """Wait until every node takes increments with ids: each counts one in the counter `takes-ids`.

    A new node refuses ids with 503 until it has heard from every member. A config can have spread before that. Once a
    node has counted an id, it refuses none for that reason any more, also after a kill.
    """

    async def check(node: Node) -> str | None:
        headers = {"Idempotency-Key": f"{int(time.time())}-node-{node.number}"}
        try:
            answer = await once(node.address, "POST", "/counter/takes-ids", b"1", headers=headers)
        except (NotSent, NoAnswer) as error:
            return f"{node} does not answer: {error}"
        return None if answer.status == 200 else f"{node} takes no ids: {answer}"

    for node in nodes:
        await eventually(partial(check, node), within)


async def values_are(nodes: Sequence[Node], expected: Mapping[str, int], within: float) -> float:
    """Wait until every /value is exact; one that is too high fails at once. Returns the seconds that it took."""

    async def check() -> str | None:
        for node in nodes:
            for name, total in expected.items():
                value = await node.value(name)
                assert value <= total, f"{name} at {node} is {value}, more than {total}"
                if value != total:
                    return f"{name} at {node} is {value}, not {total}"
        return None

    return await eventually(check, within)


async def clients_are(node: Node, expected: int, within: float) -> None:
    """Wait until some number of clients are connected, besides the one that asks."""

    async def check() -> str | None:
        others = await node.metric('gcount_connections{kind="client"}') - 1
        return None if others == expected else f"{others} clients at {node}, not {expected}"

    await eventually(check, within)


async def consistent_when_possible(node: Node, name: str, within: float) -> int:
    """The consistent value; after a 503 it is asked for again, until `within` seconds have passed."""
    values: list[int] = []

    async def check() -> str | None:
        try:
            answer = await node.consistent(name)
        except (NotSent, NoAnswer) as error:
            return f"no consistent {name} at {node}: {error}"
        if answer.status == 200:
            values.append(answer.number())
            return None
        assert answer.status == 503, answer
        return f"no consistent {name} at {node}: {answer}"

    await eventually(check, within)
    return values[0]


async def consistent_values_are(nodes: Sequence[Node], expected: Mapping[str, int], within: float) -> float:
    """Check that every consistent value is exact on every node; returns the seconds that the slowest one took."""
    began = time.monotonic()

    async def ask(node: Node, name: str, total: int) -> None:
        value = await consistent_when_possible(node, name, within)
        assert value == total, f"consistent {name} at {node} is {value}, not {total}"

    async with trio.open_nursery() as nursery:
        for node in nodes:
            for name, total in expected.items():
                nursery.start_soon(ask, node, name, total)
    elapsed = time.monotonic() - began
    assert elapsed < within, f"exact, but after {elapsed:.2f} s, not within {within} s"
    return elapsed


def assert_unavailable(
    answer: Response, missing: Sequence[Node], *, at_least: int = 0, at_most: int | None = None
) -> None:
    """Check the 503 of a consistent read: it names the missing members, and gives a lower bound."""
    assert answer.status == 503, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert "retry-after" in answer.headers, answer
    problem = answer.json()
    assert {"type", "title", "status", "detail", "value", "missing"} <= problem.keys(), problem
    assert problem["status"] == 503
    named = problem["missing"]
    assert len(named) == len(missing), (named, missing)
    assert all(any(is_entry(entry, node) for entry in named) for node in missing), (named, missing)
    bound = int(problem["value"])
    assert bound >= at_least, problem
    assert at_most is None or bound <= at_most, problem


@contextmanager
def serving(base: Path, count: int, *, env: Mapping[str, str] | None = None) -> Iterator[list[Node]]:
    """Configured nodes for a fixture that several tests share; `revive` them before each."""
    nodes = loopback_nodes(base, count, env=env)

    async def start() -> None:
        for node in nodes:
            node.spawn()
        for node in nodes:
            await node.ready()
        await configure(nodes[0], nodes)
        await spread(nodes)

    try:
        trio.run(start)
        yield nodes
    finally:
        for node in nodes:
            node.kill9()


async def revive(nodes: Sequence[Node]) -> None:
    """Start nodes that an earlier test has killed, and skip the lines that they have logged so far."""
    for node in nodes:
        if not node.runs():
            await node.start()
        node.mark()


async def still_serves(nodes: Sequence[Node], within: float = 10.0) -> None:
    """Check that all nodes run, take increments, reach each other, read consistently, and logged no traceback."""
    try:
        for node in nodes:
            assert node.runs(), f"{node} is gone"
        total = int((await nodes[0].consistent("probe", timeout=within)).number())
        for node in nodes:
            await node.add("probe", 1)
        expected = {"probe": total + len(nodes)}
        await consistent_values_are(nodes, expected, within)
        await values_are(nodes, expected, within)
        for node in nodes:
            assert "Traceback" not in node.since_mark(), f"{node} wrote a traceback"
    except BaseException:
        show(nodes)
        raise
