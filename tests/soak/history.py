"""What a soak did and saw, as the judge reads it: one record a line in a file, times in seconds since the start."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO, TypeVar

# ok: answered 200. refused: answered with an error that promises that nothing was changed. unsent: no connection, so
# certainly nothing was changed. unknown: counted or not.
Outcome = Literal["ok", "refused", "unsent", "unknown"]

POWERS = "powers"  # counters whose names begin so are raised by powers of two, each used once


@dataclass(frozen=True)
class Soak:
    """How the run was asked for, and what could not be done here."""

    seed: int
    nodes: int
    seconds: float
    pace: float  # increments a second asked of each node
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Increment:
    """One attempt."""

    node: int
    name: str
    amount: int
    start: float
    end: float  # when it was answered or given up
    outcome: Outcome
    status: int = 0
    value: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Look:
    """A /value that was answered."""

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
    """Something became of a node: ready, killed, paused, resumed, full, room, or (by itself) ended."""

    node: int
    time: float
    what: Literal["ready", "killed", "paused", "resumed", "full", "room", "ended"]
    detail: str = ""


@dataclass(frozen=True)
class Fault:
    """One blow of the nemesis, from the moment before it to the moment after it was made good."""

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
    """How a node answered SIGTERM in the end, and what it had written."""

    node: int
    code: int | None  # None: it still ran after 3 s
    tracebacks: int
    checkpoints: int  # made in all of its lives
    interrupted: int  # kills in the midst of one
    verified: int | None  # what `gcount verify` exited with on the directory that is left


Record = Soak | Increment | Look | Query | Moment | Fault | Healing | Final | Ending
T = TypeVar("T")


class History:
    """All records of a run, by kind, in the order in which they were completed."""

    KINDS: ClassVar[dict[str, type[Any]]] = {
        kind.__name__.lower(): kind for kind in (Soak, Increment, Look, Query, Moment, Fault, Healing, Final, Ending)
    }

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._records: dict[type[Any], list[Any]] = {kind: [] for kind in self.KINDS.values()}
        self.increments = self._of(Increment)
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
        """How long it lasted: until the last operation."""
        operations: list[Increment | Look | Query] = [*self.increments[-20:], *self.looks[-20:], *self.queries[-20:]]
        return max((operation.end for operation in operations), default=0.0)

    def add(self, record: Record) -> None:
        """Keep it, and write it down at once if there is a file: a run that is killed leaves what it saw."""
        self._records[type(record)].append(record)
        if self._file is not None:
            line = {item.name: getattr(record, item.name) for item in fields(record)}
            self._file.write(json.dumps({"is": type(record).__name__.lower(), **line}) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what `add` wrote; a last line that was cut off counts for nothing."""
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
