"""A few seeds reach the cases for which sizes are scaled down in a run. Otherwise the scaling could fail unnoticed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import pytest

from gcount.cluster.links.accepted_link import _Answers
from gcount.cluster.links.peer import Peer
from gcount.core.format.checkpoint_reader import Reader
from gcount.core.format.frames import MARK
from gcount.core.format.replay_merge import Coalescer
from gcount.core.options import Options
from gcount.core.protocol.replication import DeltaSender
from gcount.core.state import columns
from gcount.errors import IdGone
from gcount.storage import log
from tests.fakes.disk import SimDisk
from tests.simulation.campaign import run
from tests.simulation.campaign.history import History, Shown, Stored, Waited
from tests.simulation.campaign.run import run_seed

SEEDS = range(16)
SEAMS = {
    "a push of several chunks": 100,
    "a push of several deltas": 100,
    "a batch of several frames": 50,
    "a whole pass over a column": 50,
    "a flush in the midst of a replay": 50,
    "a checkpoint's records before its end": 5,
    "a question dropped, as too much waits": 1,
    "a reader that waits for its answers to be sent": 5,
    "an append that is not brief": 20,
    "a commit without any wait": 100,
    "an increment among several of one request": 100,
    "a counter twice in one request": 20,
    "a read that was answered alone": 5,
    "a wait for others that has found some": 50,
    "an id that was acknowledged by several nodes": 50,
    "an id that several incarnations have taken": 20,
    "a settlement": 20,
    "an id that was refused as too old": 10,
    "a total that was raised": 5,
}
"""The cases that have to be reached, and how often at least."""


@contextmanager
def counted(reached: Counter[str]) -> Iterator[None]:
    """Count how often each case is reached."""

    def looking(target: Any, name: str, look: Callable[..., object]) -> Any:
        original = getattr(target, name)

        @wraps(original)
        def change(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            look(result, *args)
            return result

        return patch.object(target, name, change)

    def pushed(push: Any, *_: object) -> None:
        reached["a push of several chunks"] += push is not None and not push.last
        reached["a push of several deltas"] += push is not None and len(push.deltas) > 1

    def encoded(data: bytes, _: object, options: Options) -> None:
        reached["a batch of several frames"] += data.count(MARK) > 1
        reached["an append that is not brief"] += len(data) > options.brief_bytes

    def searched(_: object, __: object, ___: object, ____: object, version: int, _____: int) -> None:
        reached["a whole pass over a column"] += version > 0

    def flushed(coalescer: Coalescer) -> None:
        reached["a flush in the midst of a replay"] += coalescer._cells > coalescer._most_cells

    def posted(member: Peer) -> None:
        waiting = member._channel.unsent if member._channel is not None else 0
        reached["a question dropped, as too much waits"] += waiting >= member._max_unsent

    def waits(answers: Any) -> None:
        reached["a reader that waits for its answers to be sent"] += answers._channel.unsent > answers.max_unsent

    def before(target: Any, name: str, look: Callable[[Any], None]) -> Any:
        original = getattr(target, name)

        def change(self: Any, *args: Any, **options: Any) -> Any:
            look(self)
            return original(self, *args, **options)

        return patch.object(target, name, change)

    original_feed, original_run = Reader.feed, SimDisk.run

    def feed(self: Reader, data: bytes, *, last: bool) -> Iterator[Any]:
        for record in original_feed(self, data, last=last):
            reached["a checkpoint's records before its end"] += not last
            yield record

    async def run_disk(self: SimDisk, operation: Any, *, brief: bool = False, background: bool = False) -> Any:
        reached["a commit without any wait"] += brief and self.at_once == 1.0
        return await original_run(self, operation, brief=brief, background=background)

    with (
        looking(DeltaSender, "next_push", pushed),
        looking(log, "encode_batch", encoded),
        looking(columns, "_newer", searched),
        before(Coalescer, "flush", flushed),
        before(Peer, "post", posted),
        before(_Answers, "wait_drained", waits),
        patch.object(Reader, "feed", feed),
        patch.object(SimDisk, "run", run_disk),
    ):
        yield


def look_back(reached: Counter[str], history: History) -> None:
    """Count what the clients did."""
    seen = set[tuple[int, str]]()
    for increment in history.increments:
        if increment.acknowledged and increment.batch:
            reached["an increment among several of one request"] += 1
            reached["a counter twice in one request"] += (increment.batch, increment.name) in seen
            seen.add((increment.batch, increment.name))
    reached["a read that was answered alone"] += sum(bool(query.value) and query.alone for query in history.queries)
    found = sum(isinstance(entry, Waited) and entry.holders > 0 for entry in history.journal)
    reached["a wait for others that has found some"] += found
    look_back_at_ids(reached, history)


def look_back_at_ids(reached: Counter[str], history: History) -> None:
    """Count what became of ids."""
    hosts, totals = defaultdict[str, set[str]](set), defaultdict[str, set[int]](set)
    for sent in history.sent:
        if sent.acknowledged:
            hosts[sent.key].add(sent.host)
            totals[sent.key].add(sent.total)
        reached["an id that was refused as too old"] += sent.refused == IdGone.__name__
    reached["an id that was acknowledged by several nodes"] += sum(len(at) > 1 for at in hosts.values())
    reached["a total that was raised"] += sum(len(of) > 1 for of in totals.values())
    shown = [entry for entry in history.journal if isinstance(entry, Shown)]
    shared = {key for entry in shown for key, holders in entry.entries.items() if len(holders) > 1}
    reached["an id that several incarnations have taken"] += len(shared)
    for entry in history.journal:
        if isinstance(entry, Stored):
            own = [delta.keyed for delta in entry.deltas if delta.incarnation == entry.own]
            reached["a settlement"] += any(keyed is not None and keyed.settled for keyed in own)


@pytest.fixture(scope="module")
def reached() -> Counter[str]:
    found, histories = Counter[str](), list[History]()

    def recorded() -> History:
        histories.append(History())
        return histories[-1]

    with counted(found), patch.object(run, "History", recorded):
        for seed in SEEDS:
            run_seed(seed)
    for history in histories:
        look_back(found, history)
    return found


@pytest.mark.parametrize("seam", SEAMS)
def test_a_few_seeds_reach_each_case_often(seam: str, reached: Counter[str]) -> None:
    assert reached[seam] >= SEAMS[seam], reached
