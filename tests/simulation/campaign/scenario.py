"""What a seed stands for: the cluster, its speeds, and which faults it meets."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from gcount.core.options import Options
from tests.fakes.network import BUFFER_BYTES
from tests.simulation.campaign.limits import draw_limits
from tests.simulation.campaign.sizes import SMALL, draw_files, draw_sizes

INCREMENTS = 200  # at least, acknowledged
READS = 40  # consistent ones, at least, answered
FAULTS = 8  # at least
COUNTERS = 6  # of 64 powers of two each


@dataclass(frozen=True)
class Scenario:
    """One run.

    Args:
        seed: of all chance.
        nodes: how many.
        core: the numbers of those that are in every config.
        delay: least and most seconds that a message travels.
        latency: least and most seconds that a disk takes.
        background: the same for operations for which nothing waits, as those of checkpoints.
        skews: of the wall clock of each node, in seconds.
        faults: how many.
        kinds: the names of those that may happen.
        gap: seconds from one to the next, at most.
        hurry: how much faster than needed the clients are.
        config: how the first one is posted: to "one", to "all", or first another one ("twice").
        buffer_bytes: what one direction of a connection holds.
        options: sizes and limits that each node works with.
        counters: --max-counters of each machine, by turns.
        at_once: which share of brief operations of disks is done without any wait.
        alone: seconds in which the nodes work alone before the first config is posted.
    """

    seed: int
    nodes: int
    core: tuple[int, ...]
    delay: tuple[float, float]
    latency: tuple[float, float]
    background: tuple[float, float]
    skews: tuple[float, ...]
    faults: int
    kinds: tuple[str, ...]
    gap: float
    hurry: float
    config: str
    buffer_bytes: int
    options: Options
    counters: tuple[int, ...]
    at_once: float
    alone: float

    @property
    def seconds(self) -> float:
        """How long the faults go on, about."""
        return self.faults * self.gap / 2 + 3.0

    @property
    def reshapes(self) -> bool:
        """Whether members come and go."""
        return len(self.core) < self.nodes

    def max_counters(self, number: int) -> int:
        """What the operator of a machine set.

        Args:
            number: of the machine, from 1.
        """
        return self.counters[(number - 1) % len(self.counters)]


def draw(seed: int, kinds: dict[str, str], nodes: int | None = None, fault: str | None = None) -> Scenario:
    """The scenario of a seed.

    Args:
        seed: any number.
        kinds: the faults there are; each with "" or what it needs: "fixed" or "reshaped" configs.
        nodes: how many, if not as the seed wants it.
        fault: one that is to happen often, where the configs of the seed are as it needs them.
    """
    random = Random(f"gcount {seed}")
    size = random.choices((2, 3, 4, 5), (8, 76, 10, 6))[0]
    size = nodes or size
    everybody = range(1, size + 1)
    reshapes = size > 2 and random.random() < 0.25
    core = tuple(sorted(random.sample(everybody, 2))) if reshapes else tuple(everybody)
    allowed = [kind for kind, needs in kinds.items() if needs in ("", "reshaped" if reshapes else "fixed")]
    some = random.sample(
        allowed, min(random.randint(5, 9), len(allowed))
    )  # a swarm: few kinds a seed, but many of them
    if "crash_in_a_checkpoint" not in some and random.random() < 0.4:
        some.append("crash_in_a_checkpoint")
    if fault in allowed:
        some = [fault] * len(some) + some
    if reshapes and "reshape" not in some:
        some.append("reshape")
    skews = (0.0, random.uniform(-0.05, 0.05), -3600.0, 3600.0)
    alike = random.random() < 0.5
    delay = random.choice(((0.0005, 0.002), (0.001, 0.01), (0.001, 0.03)))
    latency = random.choice(((0.0001, 0.0005), (0.0005, 0.004), (0.001, 0.015)))
    background = random.choice(((0.0, 0.0001), (0.0005, 0.004), (0.001, 0.015)))
    options = draw_files(random, SMALL)
    drawn_skews = (random.choice(skews),) * (size + 1) if alike else tuple(random.choices(skews, k=size + 1))
    faults = random.randint(FAULTS, FAULTS + 3)
    gap = random.choice((0.5, 0.8, 1.0))
    hurry = random.choice((1.0, 1.2))
    config = random.choice(("one", "one", "all", "twice"))
    buffer_bytes = random.choice((BUFFER_BYTES, 2000, 60))
    options, counters = draw_limits(seed, draw_sizes(random, options), few_lives="many_lives" in some)
    return Scenario(
        seed=seed,
        nodes=size,
        core=core,
        delay=delay,
        latency=latency,
        background=background,
        skews=drawn_skews,
        faults=faults,
        kinds=tuple(some),
        gap=gap,
        hurry=hurry,
        config=config,
        buffer_bytes=buffer_bytes,
        options=options,
        counters=counters,
        at_once=random.choice((0.0, 0.0, 0.5, 1.0)),
        alone=random.choice((0.0, 0.0, 0.0, 0.7, 2.5)),
    )
