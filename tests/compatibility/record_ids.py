"""Records the bytes and a directory of increments with ids, with the code of the checkout in which it runs.

.venv/bin/python -P -m tests.compatibility.record_ids FOLDER
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import trio

from tests.compatibility.names import TODAY as CODE
from tests.compatibility.observe import gcount, target
from tests.compatibility.record import Ledger, at, configure, count_until_checkpoint, killed_at_the_end, launcher, write
from tests.compatibility.samples import FRESH, HEADER, ODD_NAMES
from tests.compatibility.samples_of_ids import BATCHES, BIG_BATCH, HISTORY, MESSAGES
from tests.harness.cluster import values_are
from tests.harness.processes import Node
from tests.harness.waiting import eventually

KEY, REPLAYED = "Idempotency-Key", "idempotent-replayed"
SHORT, LONG = 2, 366 * 24 * 3600  # seconds


def main(out: Path) -> None:
    """Record everything into a new folder."""
    out.mkdir(parents=True)
    write(out / "records.json", records())
    trio.run(directory, out)
    shutil.rmtree(out / "work")


def records() -> dict[str, Any]:
    """What the samples of log, checkpoint and messages are encoded to."""
    header = CODE.build(HEADER)
    replica = CODE.replay(CODE.build(FRESH), map(CODE.build, HISTORY))
    return {
        "segment header": CODE.encode_header(header, False).hex(),
        "checkpoint header": CODE.encode_header(header, True).hex(),
        "batches": {label: CODE.encode_batch(CODE.build(sample)).hex() for label, sample in BATCHES.items()},
        "sha256 of the big batch": hashlib.sha256(CODE.encode_batch(CODE.build(BIG_BATCH))).hexdigest(),
        "checkpoint": CODE.write_checkpoint(replica, header).hex(),
        "messages": {label: CODE.encode(CODE.build(sample)).hex() for label, sample in MESSAGES.items()},
    }


async def directory(out: Path) -> None:
    """A member's checkpoint and the log behind it: ids that are settled, live ids of both members, and a source."""
    work, ledger, live = out / "work", Ledger(), dict[str, tuple[str, int]]()
    nodes = [at(work / f"data-{number}", number) for number in (11, 12)]
    one, other = nodes
    for node in nodes:
        node.launcher = launcher(work)
        node.env["GCOUNT_RETRY_WINDOW"] = str(SHORT)
    async with killed_at_the_end(*nodes):
        await configure(one, [node.host for node in nodes])
        for place, name in enumerate(ODD_NAMES):
            await increment(nodes[place % 2], name, f"{int(time.time())}-settled", 10**place, ledger)
        await values_are(nodes, {target(name): total for name, total in ledger.items()}, within=20)
        await eventually(lambda: _is_settled(one), within=20)
    for node in nodes:
        node.env["GCOUNT_RETRY_WINDOW"] = str(LONG)
    now = int(time.time())
    async with killed_at_the_end(*nodes):
        for place, name in enumerate(ODD_NAMES):
            id_ = f"{now}-live{place}"
            await increment(nodes[place % 2], name, id_, 10**place, ledger)
            live[name] = id_, 10**place
        live["both"] = f"{now}-both", 5
        one.pause()
        await increment(other, "both", *live["both"], {})
        one.resume()
        other.pause()
        await increment(one, "both", *live["both"], ledger)
        other.resume()
        await values_are(nodes, {target(name): total for name, total in ledger.items()}, within=20)
        other.kill9()
        await count_until_checkpoint(one, ledger)
        await raise_source(one, "source", f"{now}-source", [3, 11], ledger)
        await increment(one, "behind", f"{now}-behind", 1, ledger)
        live["behind"] = f"{now}-behind", 1
    shutil.copytree(one.data_dir or out, out / "directory")
    (out / "directory" / "lock").unlink(missing_ok=True)
    shutil.copytree(out / "directory", work / "copy")
    verified = gcount("verify", work / "copy")
    assert verified.returncode == 0, verified
    seen = {"acknowledged": ledger, "now": now, "live": live, "source": ["source", f"{now}-source", 11]}
    write(out / "directory.json", {**seen, "verified": verified.stdout.splitlines()[1:]})


async def increment(node: Node, name: str, id_: str, amount: int, ledger: dict[str, int]) -> None:
    async def ask() -> str | None:
        answer = await node.client().request("POST", f"/counter/{target(name)}", b"%d" % amount, headers={KEY: id_})
        if answer.status == 503:  # it does not know yet that the members understand ids
            return str(answer)
        assert answer.status == 200, answer
        if REPLAYED not in answer.headers:
            ledger[name] = ledger.get(name, 0) + amount
        return None

    await eventually(ask, within=20)


async def raise_source(node: Node, name: str, id_: str, totals: list[int], ledger: Ledger) -> None:
    for total in totals:
        path = f"/counter/{target(name)}/sources/{id_}"
        answer = await node.client().request("PUT", path, b"%d" % total)
        assert answer.status == 200, answer
    ledger[name] = totals[-1]


async def _is_settled(node: Node) -> str | None:
    live = await node.metric("gcount_ids_live")
    return None if live == 0 else f"{live} ids are live"


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
