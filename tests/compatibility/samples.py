"""What is encoded by every version and has to give the same bytes: messages, batches of a log, a checkpoint.

The samples are plain data, so that no version's names are in them. They name classes and fields as commit bb4ef53 did;
`Code` says where a version has them. Nothing here imports gcount: `record.py` runs it beside that commit's modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_CELL = 2**64 - 1
MAX_VERSION = 2**62


@dataclass(frozen=True)
class Made:
    """A value of one of the code's classes: its class and fields, by the names of commit bb4ef53."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def made(kind: str, **fields: Any) -> Made:
    return Made(kind, fields)


@dataclass(frozen=True)
class Code:
    """Where one version of the code has what the recordings are about.

    Attributes:
        classes: the classes by their recorded names.
        fields: the fields that have another name in this version, by class and recorded name.
        protocol: the number in each hello.
        encode: a message's bytes.
        decode: the message in some bytes.
        encode_header: the bytes of a header; of a checkpoint's when the second argument is true.
        encode_batch: a batch's bytes in the log.
        read_segment: a segment's header and batches; all its bytes have to be whole.
        replay: the replica that some batches make.
        read_checkpoint: a checkpoint's header and the replica in it.
        write_checkpoint: the bytes of a checkpoint of a replica, which covers the segments before that of a header.
        open_node: runs a node without peers on a directory; its ids come from a seed.
        increment: lets such a node count.
        make_checkpoint: lets such a node make a checkpoint.
    """

    classes: Mapping[str, Any]
    fields: Mapping[str, Mapping[str, str]]
    protocol: int
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    encode_header: Callable[[Any, bool], bytes]
    encode_batch: Callable[[Any], bytes]
    read_segment: Callable[[bytes], tuple[Any, list[Any]]]
    replay: Callable[[Any, Iterable[Any]], Any]
    read_checkpoint: Callable[[bytes], tuple[Any, Any]]
    write_checkpoint: Callable[[Any, Any], bytes]
    open_node: Callable[[Path, int], AbstractAsyncContextManager[Any]]
    increment: Callable[[Any, str, int], Any]
    make_checkpoint: Callable[[Any], Any]

    def build(self, value: Any) -> Any:
        """A sample as this version's own value."""
        match value:
            case Made(kind, fields):
                names = self.fields.get(kind, {})
                return self.classes[kind](**{names.get(name, name): self.build(each) for name, each in fields.items()})
            case list() | tuple():
                return type(value)(map(self.build, value))
            case dict():
                return {key: self.build(each) for key, each in value.items()}
            case _:
                return value

    def get(self, message: Any, kind: str, name: str) -> Any:
        """A field of a value that has to be of some class, both by their recorded names."""
        assert type(message) is self.classes[kind], message
        return getattr(message, self.fields.get(kind, {}).get(name, name))


def an_id(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


NODE, BOOT, LIFE, FORMER, FIRST, OTHER = map(an_id, ("node", "boot", "life", "former", "first", "other"))
CHALLENGE = an_id("challenge")
ODD_NAMES = ("a", "käse/брой", "a/b/c", "😀", " with spaces ", "%2F", '"quoted"\\', "n" * 255, "ü" * 127)
MEMBERSHIP = made("Membership", version=1_764_000_000_123, actors=("10.0.0.1:7777", "[fe80::1]:7777", "host.example:1"))
WHOLE_DELTA = made(
    "Delta", incarnation=LIFE, after=0, upto=3, cells={name: 1 << 7 * place for place, name in enumerate(ODD_NAMES)}
)
DELTA = made("Delta", incarnation=FORMER, after=300, upto=MAX_VERSION, cells={"a": MAX_CELL, "b": 2**63, "c": 1})

HELLO = {
    "protocol": 1,
    "cluster": "",
    "node": NODE,
    "boot": BOOT,
    "incarnation": LIFE,
    "retired": [],
    "membership": made("Membership"),
    "digest": {},
}

MESSAGES: Mapping[str, Made] = {
    "hello": Made("Hello", HELLO),
    "hello with all fields": made(
        "Hello",
        protocol=1,
        cluster="größe",
        node=NODE,
        boot=BOOT,
        incarnation=LIFE,
        retired=[FIRST, FORMER],
        membership=MEMBERSHIP,
        digest={LIFE: 3, FORMER: 70_000, OTHER: MAX_VERSION},
        twin=True,
        challenge=CHALLENGE,
        entry="10.0.0.1:7777",
        seen={OTHER: 5},
        resumes=2**40,
        kept=17,
    ),
    "refused": made("Refused", reason="this node speaks protocol 1, not 2"),
    "refused with all fields": made("Refused", reason="ein Grund: ß", config=1_764_000_000_123),
    "push": made("Push", number=1, last=True, deltas=[]),
    "push with all fields": made(
        "Push", number=MAX_VERSION, last=False, deltas=[WHOLE_DELTA, DELTA], urgent=True, transfer=2**33
    ),
    "ack": made("Ack", number=1, digest={}),
    "ack with all fields": made("Ack", number=2, digest={LIFE: 1, OTHER: 2**32}, refused="the disk is full", kept=True),
    "beat": made("Beat"),
    "beaten": made("Beaten", digest={}),
    "beaten with all fields": made("Beaten", digest={LIFE: 255, OTHER: 256}, membership=MEMBERSHIP, owes=True),
    "collect": made("Collect", round=1, name="käse/брой", hold=False),
    "collect with a hold": made("Collect", round=65_536, name="n" * 255, hold=True),
    "collected": made("Collected", round=1, cells={}),
    "collected with all fields": made(
        "Collected", round=65_536, cells={LIFE: MAX_CELL, OTHER: 1}, membership=made("Membership")
    ),
    "release": made("Release", name="😀"),
    "members": made("Members", membership=MEMBERSHIP),
}

# How many elements a message without the fields that were added later has, its tag included.
FORMER_LENGTHS = {"hello": 9, "refused": 2, "push": 4, "ack": 3, "beaten": 2, "collected": 3}

FRESH = made("Identity", node=NODE, incarnation=LIFE)
REBORN = made("Identity", node=NODE, incarnation=LIFE, retired=(FIRST, FORMER))
HEADER = made("Header", node=NODE, incarnation=LIFE, sequence=12, first_batch=2**40)

BATCHES: Mapping[str, Made] = {
    "empty": made("Batch", number=1, deltas=[]),
    "one increment": made("Batch", number=2, deltas=[made("Delta", incarnation=LIFE, after=6, upto=7, cells={"a": 1})]),
    "several deltas": made("Batch", number=2**40, deltas=[WHOLE_DELTA, DELTA]),
    "an identity": made("Batch", number=3, deltas=[], identity=REBORN),
    "a membership": made("Batch", number=4, deltas=[], membership=MEMBERSHIP),
    "everything": made("Batch", number=5, deltas=[WHOLE_DELTA], identity=REBORN, membership=MEMBERSHIP),
}

BIG_BATCH = made(
    "Batch",
    number=6,
    deltas=[
        made("Delta", incarnation=OTHER, after=0, upto=1, cells={f"{n:0100}": n + 1 for n in range(20_000)}),
        *(made("Delta", incarnation=an_id(f"{n}"), after=0, upto=1, cells={"a": 1}) for n in range(40)),
    ],
    identity=REBORN,
)


def _history() -> list[Made]:
    """Batches of which the replica has dense and sparse columns, zeros, a membership, and deltas behind a gap."""
    many = {f"many/{n}": n + 1 for n in range(60)}
    deltas = [
        [made("Delta", incarnation=FIRST, after=0, upto=1, cells=many)],
        [WHOLE_DELTA],
        [made("Delta", incarnation=FIRST, after=1, upto=2, cells={"many/3": MAX_CELL, "late": 2})],
        [made("Delta", incarnation=OTHER, after=0, upto=900, cells={"many/59": MAX_CELL})],
        [made("Delta", incarnation=FORMER, after=4, upto=5, cells={"behind/ö": 4})],
        [made("Delta", incarnation=FORMER, after=7, upto=9, cells={"behind/ö": 6, "many/1": MAX_CELL})],
        [made("Delta", incarnation=LIFE, after=3, upto=4, cells={"a": 2**33})],
    ]
    numbered = [made("Batch", number=number, deltas=each) for number, each in enumerate(deltas, start=1)]
    last = len(numbered) + 1
    return [*numbered, made("Batch", number=last, deltas=[], identity=REBORN, membership=MEMBERSHIP)]


HISTORY = _history()


async def write_seeded(code: Code, folder: Path) -> None:
    """Let nodes whose ids come from seeds write a directory: three starts, and a checkpoint in the second."""
    async with code.open_node(folder, 1) as node:
        for place, name in enumerate(ODD_NAMES):
            await code.increment(node, name, 3**place)
        await code.increment(node, "full", MAX_CELL)
    async with code.open_node(folder, 2) as node:
        await code.increment(node, "a", 5)
        await code.make_checkpoint(node)
        await code.increment(node, "b", 7)
    async with code.open_node(folder, 3) as node:
        await code.increment(node, "a", 11)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a data directory that nodes read."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in (".log", ".checkpoint")}
