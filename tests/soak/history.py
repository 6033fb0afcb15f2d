"""The history of a soak, for the judge: one record in each line of a file, times in seconds since the start."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO, TypeVar

# ok: answered 200. refused: answered with an error that promises that nothing was changed. unsent: there was no
# connection, so nothing was changed. unknown: it may have been counted.
Outcome = Literal["ok", "refused", "unsent", "unknown"]

POWERS = "powers"  # counters whose names begin so get powers of two, each used once


@dataclass(frozen=True)
class Soak:
    """The settings of the run, and what could not be done on this machine."""

    seed: int
    nodes: int
    seconds: float
    pace: float  # increments a second that each node is sent
    notes: list[str] = field(default_factory=list)
    window: int = 0  # seconds; the nodes' retry window, if the run goes on until all ids are settled


@dataclass(frozen=True)
class Increment:
    """One attempt to increment. All attempts with one id are one increment."""

    node: int
    name: str
    amount: int
    start: float
    end: float  # when it was answered or given up
    outcome: Outcome
    status: int = 0
    value: int = 0
    reason: str = ""
    id: str = ""
    replayed: bool = False  # the node answered that it knew the id


@dataclass(frozen=True)
class Ids:
    """What a node said of ids, at some time."""

    node: int
    time: float
    live: int  # ids that no settlement covers
    floor: int  # the node takes no id up to this time, in seconds since 1970
    last: bool = False  # the run waits no longer until all ids are settled


@dataclass(frozen=True)
class Look:
    """A read of /value that was answered."""

    node: int
    name: str
    start: float
    end: float
    value: int


@dataclass(frozen=True)
class Query:
    """A consistent read, answered or not."""

    node: int
    name: str
    start: float
    end: float
    outcome: Outcome
    status: int = 0
    value: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Moment:
    """A change of a node: ready, killed, paused, resumed, full, room (space on the disk again) or ended (by itself)."""

    node: int
    time: float
    what: Literal["ready", "killed", "paused", "resumed", "full", "room", "ended"]
    detail: str = ""


@dataclass(frozen=True)
class Fault:
    """One fault, from the moment before it began to the moment after it ended."""

    step: int
    kind: str
    nodes: list[int]
    start: float
    end: float
    detail: str = ""


@dataclass(frozen=True)
class Healing:
    """After a step's faults: when all was well again, and the seconds until every node knew."""

    step: int
    name: str  # the counter that was raised during the faults, on every node that could, and not since
    time: float
    exact_after: float | None  # until a consistent read was answered on every node
    equal_after: float | None  # until every /value was that, too


@dataclass(frozen=True)
class Final:
    """A counter at the end on one node."""

    node: int
    name: str
    consistent: int | None
    value: int | None


@dataclass(frozen=True)
class Ending:
    """The end of a node after SIGTERM, and what it has left."""

    node: int
    code: int | None  # None: it still ran after 3 s
    tracebacks: int
    checkpoints: int  # made since its first start
    interrupted: int  # kills during a checkpoint
    verified: int | None  # the exit code of `gcount verify` on its directory


Record = Soak | Increment | Ids | Look | Query | Moment | Fault | Healing | Final | Ending
T = TypeVar("T")


class History:
    """All records of a run, by kind, in the order in which they were completed."""

    KINDS: ClassVar[dict[str, type[Any]]] = {
        kind.__name__.lower(): kind
        for kind in (Soak, Increment, Ids, Look, Query, Moment, Fault, Healing, Final, Ending)
    }

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._records: dict[type[Any], list[Any]] = {kind: [] for kind in self.KINDS.values()}
        self.increments = self._of(Increment)
        self.ids = self._of(Ids)
        self.looks = self._of(Look)
        self.queries = self._of(Query)
        self.moments = self._of(Moment)
        self.faults = self._of(Fault)
        self.healings = self._of(Healing)
        self.finals = self._of(Final)
        self.endings = self._of(Ending)

    def _of(self, kind: type[T]) -> list[T]:
        return self._records[kind]

    @property
    def soak(self) -> Soak:
        return self._of(Soak)[0]

    @property
    def seconds(self) -> float:
        """How long the run lasted, until its last operation."""
        operations: list[Increment | Look | Query] = [*self.increments[-20:], *self.looks[-20:], *self.queries[-20:]]
        return max((operation.end for operation in operations), default=0.0)

    def add(self, record: Record) -> None:
        """Add a record, and write it to the file at once, if there is one: a run that is killed leaves its history."""
        self._records[type(record)].append(record)
        if self._file is not None:
            line = {item.name: getattr(record, item.name) for item in fields(record)}
            self._file.write(json.dumps({"is": type(record).__name__.lower(), **line}) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what `add` has written; an incomplete last line is ignored."""
        history = cls()
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                document = json.loads(line)
            except ValueError:
                if number == len(lines):
                    break
                raise
            history.add(cls.KINDS[document.pop("is")](**document))
        return history
