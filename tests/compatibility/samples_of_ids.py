"""What is encoded of increments with ids, and has to give the same bytes in every version: see samples.py."""

from __future__ import annotations

from collections.abc import Mapping

from tests.compatibility.samples import (
    CHALLENGE,
    FIRST,
    FORMER,
    HELLO,
    LIFE,
    MAX_CELL,
    MAX_VERSION,
    MEMBERSHIP,
    ODD_NAMES,
    OTHER,
    REBORN,
    Made,
    made,
)

SECONDS = 1_764_000_000
UUID = "019ab3c5-4c00-7abc-8def-0123456789ab"
ULID = "01KASWAK00ABCDEFGHJKMNPQRS"
IDS = (f"{SECONDS}-x", UUID, ULID, f"{SECONDS}-{'~' * 53}")
ENTRIES = {f"{id_} {name}": (7**place, place + 1) for place, name in enumerate(ODD_NAMES) for id_ in IDS}
ONE_ENTRY = made("Keyed", entries={f"{SECONDS}-x a": (MAX_CELL, MAX_VERSION)})
SETTLED = {
    LIFE: made("Settlement", until=SECONDS - 1, version=3, parts={"a": 1, "käse/брой": MAX_CELL}),
    OTHER: made("Settlement", until=59, version=MAX_VERSION, parts={}),
}
BOTH = made("Keyed", entries={f"{UUID} a/b/c": (2**40, 9)}, settled=SETTLED)

DELTA_OF_ENTRIES = made(
    "Delta", incarnation=LIFE, after=0, upto=9, cells={"a": 1}, keyed=made("Keyed", entries=ENTRIES)
)
DELTA_OF_BOTH = made("Delta", incarnation=OTHER, after=8, upto=9, cells={}, keyed=BOTH)

BATCHES: Mapping[str, Made] = {
    "a floor": made("Batch", number=1, deltas=[], floor=0),
    "one id": made(
        "Batch", number=2, deltas=[made("Delta", incarnation=LIFE, after=6, upto=7, cells={}, keyed=ONE_ENTRY)]
    ),
    "many ids": made("Batch", number=3, deltas=[DELTA_OF_ENTRIES], floor=SECONDS - 1),
    "a settlement": made("Batch", number=4, deltas=[DELTA_OF_BOTH]),
    "needs": made(
        "Batch",
        number=7,
        deltas=[DELTA_OF_BOTH],
        needs=made("Needs", columns=[LIFE, OTHER], versions={FIRST: 3, FORMER: MAX_VERSION}),
    ),
    "everything": made(
        "Batch", number=5, deltas=[DELTA_OF_ENTRIES, DELTA_OF_BOTH], identity=REBORN, membership=MEMBERSHIP, floor=2**40
    ),
}

BIG_BATCH = made(
    "Batch",
    number=6,
    deltas=[
        made(
            "Delta",
            incarnation=OTHER,
            after=0,
            upto=1,
            cells={f"{n:0100}": n + 1 for n in range(2_000)},
            keyed=made("Keyed", entries={f"{SECONDS}-{n} {n:0100}": (n + 1, 1) for n in range(5_000)}, settled=SETTLED),
        )
    ],
    floor=1,
)

MESSAGES: Mapping[str, Made] = {
    "hello": made("Hello", **HELLO, challenge=CHALLENGE, floor=SECONDS, window=3600.0),
    "push": made(
        "Push", number=1, last=True, deltas=[DELTA_OF_ENTRIES, DELTA_OF_BOTH], needs={OTHER: 9, FIRST: MAX_VERSION}
    ),
    "beaten": made("Beaten", digest={LIFE: 255}, floor=SECONDS),
    "collect": made("Collect", round=2, name="a", hold=True, known={LIFE: 3}),
    "collected": made(
        "Collected",
        round=2,
        cells={},
        parts={LIFE: MAX_CELL},
        changed={OTHER: MAX_VERSION},
        told=made("Told", entries={OTHER: {f"{SECONDS}-x": (5, MAX_VERSION)}}, needs={LIFE: 7}),
    ),
}

HISTORY = [
    made("Batch", number=1, deltas=[DELTA_OF_ENTRIES], floor=0),
    made(
        "Batch",
        number=2,
        deltas=[
            made(
                "Delta",
                incarnation=FIRST,
                after=0,
                upto=2,
                cells={"a": 2},
                keyed=made("Keyed", entries={f"{SECONDS}-x a": (5, 1), f"{SECONDS + 60}-y a": (6, 2)}),
            )
        ],
    ),
    made(
        "Batch", number=3, deltas=[made("Delta", **{**DELTA_OF_BOTH.fields, "after": 0, "upto": 9})], floor=SECONDS - 1
    ),
    made(
        "Batch",
        number=4,
        deltas=[made("Delta", incarnation=FORMER, after=4, upto=5, cells={}, keyed=BOTH)],
        identity=REBORN,
    ),
]
"""Batches of which the replica has ids, of several holders, ids that are settled, a floor, and ids behind a gap."""
