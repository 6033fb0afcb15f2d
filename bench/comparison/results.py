"""The results of a comparison, as they are kept in results.json, and their medians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec

CONNECTIONS = 32


@dataclass(frozen=True)
class Reading:
    """The result of a load tool in one round.

    Attributes:
        rate: operations a second.
        p50: latency that half of them did not exceed, in seconds; None where the tool does not say.
        p99: the same for 99 of 100.
        worst: the longest.
    """

    rate: float
    p50: float | None = None
    p99: float | None = None
    worst: float | None = None


@dataclass
class Row:
    """All rounds of one rival at one piece of work."""

    work: str
    rival: str
    connections: int
    readings: list[Reading] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(reading.rate for reading in self.readings)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest rate of all rounds."""
        rates = [reading.rate for reading in self.readings]
        return min(rates), max(rates)

    def latency(self, which: str) -> float | None:
        """The median over the rounds of "p50", "p99" or "worst", in seconds."""
        return middle([getattr(reading, which) for reading in self.readings])


@dataclass
class Start:
    """Starts of a store with some number of counters: times in seconds and memory in bytes, one of each for a start."""

    rival: str
    counters: int
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


@dataclass
class Size:
    """Clusters of one size, of which the first node takes all increments.

    Attributes:
        nodes: how many.
        rates: increments acknowledged a second, one for each round.
        costs: processor time that all nodes together spent on one, in seconds.
        reads: median latency of a consistent read on one connection after the load, in seconds.
    """

    nodes: int
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)


@dataclass
class Results:
    """Everything from one run."""

    command: str
    machine: dict[str, str]
    missing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)

    def add(self, work: str, rival: str, connections: int, reading: Reading) -> None:
        row = self.row(work, rival, connections)
        if row is None:
            row = Row(work, rival, connections)
            self.rows.append(row)
        row.readings.append(reading)

    def row(self, work: str, rival: str, connections: int = CONNECTIONS) -> Row | None:
        """The row of these, or None if it was not measured."""
        found = (row for row in self.rows if (row.work, row.rival, row.connections) == (work, rival, connections))
        return next(found, None)

    def save(self, file: Path) -> None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def load(cls, file: Path) -> Results:
        return msgspec.json.decode(file.read_bytes(), type=cls)


def middle(values: Sequence[float | None]) -> float | None:
    """The median of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
