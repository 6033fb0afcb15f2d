"""Records the bytes and the directories of this folder, with the code of the checkout in which it runs.

    .venv/bin/python -P -m tests.compatibility.record FOLDER

README.md says of which version the stored recordings are, and how to record those of another one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.compatibility.exchange import Frames
from tests.compatibility.names import TODAY as CODE
from tests.compatibility.observe import gcount, node_on, observe, status, target
from tests.compatibility.samples import (
    BATCHES,
    BIG_BATCH,
    FORMER_LENGTHS,
    FRESH,
    HEADER,
    HISTORY,
    MAX_CELL,
    MESSAGES,
    ODD_NAMES,
    write_seeded,
)
from tests.harness import checkpointing
from tests.harness.cluster import values_are
from tests.harness.processes import Node
from tests.harness.waiting import eventually

PORT = 9700  # no test's node listens there
LONG = [f"{number}/" + "long" * 60 for number in range(2)]


def main(out: Path) -> None:
    """Record everything into a new folder."""
    (out / "directories").mkdir(parents=True)
    write(out / "messages.json", messages())
    write(out / "records.json", records())
    trio.run(write_seeded, CODE, out / "directories" / "seeded")
    (out / "directories" / "seeded" / "lock").unlink(missing_ok=True)
    write(out / "exchange.json", trio.run(exchange, out / "work"))
    for make in (lone, members, repaired):
        trio.run(make, out)
    shutil.rmtree(out / "work")


def write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")


# Bytes


def messages() -> dict[str, dict[str, str]]:
    """What each sample is encoded to; and the same as an earlier and a later version may send it."""
    whole = {label: CODE.encode(CODE.build(sample)) for label, sample in MESSAGES.items()}
    former = {label: _pack(_unpack(whole[label])[:length]) for label, length in FORMER_LENGTHS.items()}
    later = {label: _pack([*_unpack(data), {"unknown": b"?"}]) for label, data in whole.items()}
    return {
        "whole": {label: data.hex() for label, data in whole.items()},
        "former": {label: data.hex() for label, data in former.items()},
        "later": {label: data.hex() for label, data in later.items()},
    }


def _unpack(data: bytes) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(data)
    return fields


def _pack(fields: list[Any]) -> bytes:
    return msgspec.msgpack.encode(fields)


def records() -> dict[str, Any]:
    """What the samples of log and checkpoint are encoded to."""
    header = CODE.build(HEADER)
    replica = CODE.replay(CODE.build(FRESH), map(CODE.build, HISTORY))
    return {
        "segment header": CODE.encode_header(header, False).hex(),
        "checkpoint header": CODE.encode_header(header, True).hex(),
        "batches": {label: CODE.encode_batch(CODE.build(sample)).hex() for label, sample in BATCHES.items()},
        "sha256 of the big batch": hashlib.sha256(CODE.encode_batch(CODE.build(BIG_BATCH))).hexdigest(),
        "checkpoint": CODE.write_checkpoint(replica, header).hex(),
    }


# Directories


def host(number: int) -> str:
    """A loopback address of these recordings alone."""
    return f"127.91.7.{number}"


def at(folder: Path, number: int) -> Node:
    return node_on(folder, host(number), PORT)


@asynccontextmanager
async def killed_at_the_end(*nodes: Node) -> AsyncIterator[None]:
    try:
        for node in nodes:
            await node.start()
        yield
    finally:
        for node in nodes:
            node.kill9()


async def configure(node: Node, entries: list[str]) -> None:
    answer = await node.post("/config", json.dumps({"actors": entries}).encode())
    assert answer.status == 200, answer


class Ledger(dict[str, int]):
    """What was acknowledged, by counter."""

    async def add(self, node: Node, name: str, amount: int) -> None:
        await node.add(target(name), amount)
        self[name] = self.get(name, 0) + amount


async def store(out: Path, name: str, data: Path, ledger: Ledger) -> None:
    """Keep a directory, and what this code answers when it starts on a copy of it.

    Args:
        out: where.
        name: of the directory.
        data: the directory of a node that was killed.
        ledger: what was acknowledged, as far as it is in there.
    """
    kept, copy = out / "directories" / name, out / "work" / f"copy of {name}"
    shutil.copytree(data, kept)
    (kept / "lock").unlink(missing_ok=True)
    shutil.copytree(kept, copy)
    assert gcount("verify", copy).returncode == 0
    node = node_on(copy)
    async with killed_at_the_end(node):
        seen = await observe(node, list(ledger), ledger)
    write(out / "directories" / f"{name}.json", {"acknowledged": ledger, "seen": seen})


async def lone(out: Path) -> None:
    """A log only, of a node without members that was killed twice."""
    node, ledger = node_on(out / "work" / "log"), Ledger()
    for start in range(2):
        async with killed_at_the_end(node):
            for place, name in enumerate(ODD_NAMES):
                await ledger.add(node, name, 10**place + start)
            if not start:
                await ledger.add(node, "full", MAX_CELL)
    await store(out, "log", out / "work" / "log", ledger)


async def members(out: Path) -> None:
    """A checkpoint and a log behind it, of a member that was killed often, was alone then, and counted on."""
    work = out / "work" / "members"
    nodes = [at(work / f"data-{number}", number) for number in (1, 2, 3)]
    one, ledger = nodes[0], Ledger()
    one.launcher = launcher(work)
    async with killed_at_the_end(*nodes):
        await configure(one, [node.host for node in nodes])
        for node in nodes:
            await ledger.add(node, "big", MAX_CELL)
            for name in ODD_NAMES:
                await ledger.add(node, name, 10**node.number)
        await values_are(nodes, {target(name): total for name, total in ledger.items()}, within=20)
    for _ in range(2):
        async with killed_at_the_end(one):
            await ledger.add(one, "alone", 1)
    async with killed_at_the_end(one):
        assert (await status(one))["incarnations_known"] == 5
        await count_until_checkpoint(one, ledger)
        for _ in range(20):  # a segment and a bit
            for name in LONG:
                await ledger.add(one, name, 1)
        for name in ODD_NAMES[:4]:
            await ledger.add(one, name, 2**40)
    await store(out, "checkpoint", work / "data-1", ledger)


async def repaired(out: Path) -> None:
    """Deltas kept aside: behind a gap of a repaired log, then in a checkpoint, too."""
    work = out / "work" / "repaired"
    nodes = [at(work / f"data-{number}", number) for number in (4, 5)]
    one, ledger = nodes[0], Ledger()
    data = one.data_dir
    assert data is not None
    async with killed_at_the_end(*nodes):
        await configure(one, [node.host for node in nodes])
        await ledger.add(one, "before", 1)
        await values_are(nodes, ledger, within=20)
        nodes[1].kill9()
        await ledger.add(one, "behind/0", 2)
        await one.add("rotten", 4)
        await ledger.add(one, "behind/ö", 8)
        await ledger.add(one, "before", MAX_CELL - 1)
    log = data / "00000001.log"
    rotten = bytearray(log.read_bytes())
    rotten[rotten.index(b"rotten")] ^= 1
    log.write_bytes(rotten)
    done = gcount("repair", "--write", data)
    assert done.returncode == 0, done
    async with killed_at_the_end(one):
        await ledger.add(one, "after", 16)
    await store(out, "repaired", data, ledger)
    one.launcher = launcher(work)
    async with killed_at_the_end(one):
        await count_until_checkpoint(one, ledger)
        await ledger.add(one, "after", 32)
    (checkpoint,) = data.glob("*.checkpoint")
    assert "behind/ö".encode() in checkpoint.read_bytes()
    assert not any("behind/ö".encode() in file.read_bytes() for file in data.glob("*.log"))
    await store(out, "repaired-checkpoint", data, ledger)


def launcher(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return checkpointing.write_launcher(folder)


async def count_until_checkpoint(node: Node, ledger: Ledger) -> None:
    """Count until the node has made a checkpoint."""
    made = checkpointing.made(node)
    while checkpointing.made(node) == made:
        for name in LONG:
            await ledger.add(node, name, 1)


# A link


async def exchange(work: Path) -> dict[str, Any]:
    """What two nodes say to each other, from the dialling one's hello on; taken by a proxy between them.

    Returns:
        What was counted by the node that dialled; and the messages, each with who sent it.
    """
    dialling, accepting = at(work / "link-6", 6), at(work / "link-7", 7)
    proxy = host(8)
    links: list[list[tuple[str, bytes]]] = []
    async with killed_at_the_end(dialling, accepting), trio.open_nursery() as nursery:
        serve = partial(_proxied, links, accepting.host)
        nursery.start_soon(partial(trio.serve_tcp, serve, PORT, host=proxy))
        await trio.sleep(0.1)
        await dialling.add("counted%2Ffirst", 5)
        await configure(dialling, [dialling.host, proxy])
        node = bytes.fromhex((await status(dialling))["node"])

        async def counted(name: str, total: int) -> None:
            await eventually(lambda: _has(accepting, name, total), within=10)

        await counted("counted%2Ffirst", 5)
        await dialling.add("k%C3%A4se", MAX_CELL)
        await counted("k%C3%A4se", MAX_CELL)
        assert (await dialling.consistent("k%C3%A4se")).number() == MAX_CELL
        await accepting.add("answered", 3)
        await trio.sleep(1)
        await configure(dialling, [dialling.host, proxy, host(9)])
        await trio.sleep(1)
        ours = (each for each in links if each and CODE.get(CODE.decode(each[0][1]), "Hello", "node") == node)
        found = max(map(list, ours), key=len)  # the others ended with the hellos: a config was posted
        nursery.cancel_scope.cancel()
    return {
        "counted": {"counted/first": 5, "käse": MAX_CELL},
        "messages": [[who, data.hex()] for who, data in found],
    }


async def _has(node: Node, name: str, total: int) -> str | None:
    value = await node.value(name)
    return None if value == total else f"{name} is {value}, not {total}"


async def _proxied(links: list[list[tuple[str, bytes]]], to: str, dialled: trio.SocketStream) -> None:
    taken: list[tuple[str, bytes]] = []
    links.append(taken)

    async def pass_on(source: trio.SocketStream, sink: trio.SocketStream, tell: Callable[[bytes], None]) -> None:
        try:
            async for data in source:
                tell(bytes(data))
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel()

    def teller(who: str) -> Callable[[bytes], None]:
        frames = Frames(head=True)
        return lambda data: taken.extend((who, payload) for payload in frames.feed(data))

    async with await trio.open_tcp_stream(to, PORT) as accepted, trio.open_nursery() as nursery:
        nursery.start_soon(pass_on, dialled, accepted, teller("dials"))
        nursery.start_soon(pass_on, accepted, dialled, teller("accepts"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
