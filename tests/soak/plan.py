"""The plan of a run, drawn from a seed: which faults happen, on which nodes, how severe, how long, which together."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tests.harness.detour import Weather

KILL, PAUSE, FULL = "kill -9", "pause", "full disk"
ISOLATE, HALVES, ONE_WAY, PAIR, ALL = "cut: one node", "cut: halves", "cut: one way", "cut: one pair", "cut: all"
DELAY, LOSS = "delay", "loss"

# Faults of one family never happen at the same time; those of different families may overlap.
FAMILIES = {
    "process": (KILL, PAUSE),
    "cut": (ISOLATE, HALVES, ONE_WAY, PAIR, ALL),
    "weather": (DELAY, LOSS),
    "disk": (FULL,),
}
KINDS = tuple(kind for kinds in FAMILIES.values() for kind in kinds)
FAMILY_OF = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}

CALM = Weather()

Road = tuple[int, int]  # from one node to another


@dataclass(frozen=True)
class Blow:
    """One fault: its kind, and its nodes. If it has a direction, the first node is the one that is not heard."""

    kind: str
    nodes: tuple[int, ...]
    weather: Weather = CALM
    down: float = 0.0  # seconds until a killed node is started again

    @property
    def detail(self) -> str:
        """Further details of the fault, as text."""
        if self.kind == DELAY:
            return f"{self.weather.delay * 1000:.0f} ms, {self.weather.jitter * 1000:.0f} more or less"
        if self.kind == LOSS:
            return f"{self.weather.loss * 100:.0f} %"
        return f"{' -> '.join(map(str, self.nodes))}" if self.kind == ONE_WAY else ""

    def roads(self, hosts: Collection[int]) -> list[Road]:
        """The roads that are cut, or that have bad weather."""
        if self.kind == ONE_WAY:
            return [(self.nodes[0], self.nodes[1])]
        pairs = [(one, other) for one in hosts for other in hosts if one != other]
        if self.kind in (PAIR, ALL):
            return [(one, other) for one, other in pairs if one in self.nodes and other in self.nodes]
        if self.kind in (ISOLATE, HALVES):
            return [(one, other) for one, other in pairs if (one in self.nodes) != (other in self.nodes)]
        return [(one, other) for one, other in pairs if one in self.nodes or other in self.nodes]


@dataclass(frozen=True)
class Step:
    """Faults that are begun one after another, `gap` seconds apart, kept on for `hold` seconds, and healed together."""

    blows: tuple[Blow, ...]
    gap: float
    hold: float
    rest: float  # seconds of quiet after all is well again

    def __str__(self) -> str:
        return " + ".join(f"{blow.kind} {','.join(map(str, blow.nodes))}" for blow in self.blows)


def draw_blow(kind: str, hosts: Collection[int], rng: random.Random) -> Blow:
    """Draw a fault of a kind: its nodes and its severity."""
    everybody = tuple(hosts)
    one = (rng.choice(everybody),)
    match kind:
        case "kill -9":
            count = rng.choice((1, 1, 1, 1, 2, len(everybody)))
            return Blow(kind, tuple(sorted(rng.sample(everybody, count))), down=rng.uniform(0.0, 2.0))
        case "pause":
            return Blow(kind, tuple(sorted(rng.sample(everybody, rng.choice((1, 1, 1, len(everybody) - 1))))))
        case "cut: halves":
            return Blow(kind, tuple(sorted(rng.sample(everybody, len(everybody) // 2))))
        case "cut: one way" | "cut: one pair":
            return Blow(kind, tuple(rng.sample(everybody, 2)))
        case "cut: all":
            return Blow(kind, everybody)
        case "delay":
            delay = rng.uniform(0.02, 0.2)
            weather = Weather(delay=delay, jitter=rng.uniform(0.0, delay))
            return Blow(kind, rng.choice((one, everybody)), weather)
        case "loss":
            return Blow(kind, rng.choice((one, everybody)), Weather(loss=rng.uniform(0.02, 0.3)))
        case "full disk":
            return Blow(kind, rng.choice((one, one, everybody)))
    return Blow(kind, one)


def draw_steps(seed: int, hosts: Collection[int], kinds: Collection[str]) -> Iterator[Step]:
    """Draw steps without end: in each turn every kind alone, in a new order, and several at once after every second."""
    rng = random.Random(f"plan {seed}")
    while True:
        for number, kind in enumerate(rng.sample(list(kinds), len(kinds))):
            yield _step([draw_blow(kind, hosts, rng)], rng)
            if number % 2:
                yield _step(_mixture(hosts, kinds, rng), rng)


def _mixture(hosts: Collection[int], kinds: Collection[str], rng: random.Random) -> list[Blow]:
    """Draw several faults: a kill or a pause, if possible, and others at the same time, in any order."""
    possible = {family: [kind for kind in FAMILIES[family] if kind in kinds] for family in FAMILIES}
    others = [family for family in FAMILIES if family != "process" and possible[family]]
    families = rng.sample(others, min(len(others), rng.choice((1, 1, 2))))
    families += ["process"] if possible["process"] else []
    return [draw_blow(rng.choice(possible[family]), hosts, rng) for family in rng.sample(families, len(families))]


def _step(blows: list[Blow], rng: random.Random) -> Step:
    hold = rng.uniform(1.0, 5.0) if rng.random() < 0.9 else rng.uniform(8.0, 15.0)
    return Step(tuple(blows), gap=rng.uniform(0.2, 1.0), hold=hold, rest=rng.uniform(0.3, 2.0))
