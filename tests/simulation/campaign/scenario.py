"""The scenario of a seed: the cluster, its speeds, and its faults."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from gcount.core.options import Options
from tests.fakes.network import BUFFER_BYTES
from tests.simulation.campaign.id_scenario import IdScenario, draw_ids
from tests.simulation.campaign.limits import draw_limits
from tests.simulation.campaign.sizes import SMALL, draw_files, draw_sizes

INCREMENTS = 200  # acknowledged increments, at least
READS = 40  # consistent reads that were answered, at least
FAULTS = 8  # faults, at least
COUNTERS = 6  # of 64 powers of two each


@dataclass(frozen=True)
class Scenario:
    """One run.

    Args:
        seed: the seed of all chance.
        nodes: how many nodes.
        core: the numbers of the nodes that are in every config.
        delay: the least and the most seconds that a message travels.
        latency: the least and the most seconds that a disk operation takes.
        background: the same for background operations, such as those of checkpoints.
        skews: by how many seconds the wall clock of each node is wrong.
        faults: how many faults.
        kinds: the names of the faults that may happen.
        gap: seconds from one fault to the next, at most.
        hurry: how much faster than needed the clients are.
        config: how the first config is posted: to "one" node, to "all", or after another config ("twice").
        buffer_bytes: the bytes that one direction of a connection holds.
        options: the sizes and limits of all nodes.
        counters: --max-counters for the machines, in turn.
        at_once: the share of brief disk operations that are done without any wait.
        alone: seconds in which the nodes work alone, before the first config is posted.
        ids: how ids are used; None if they are not.
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
    ids: IdScenario | None = None

    @property
    def seconds(self) -> float:
        """About how many seconds the faults go on."""
        return self.faults * self.gap / 2 + 3.0

    @property
    def reshapes(self) -> bool:
        """Whether members come and go."""
        return len(self.core) < self.nodes

    def max_counters(self, number: int) -> int:
        """The --max-counters of a machine.

        Args:
            number: the machine's number, from 1.
        """
        return self.counters[(number - 1) % len(self.counters)]


def draw(
    seed: int, kinds: dict[str, str], nodes: int | None = None, fault: str | None = None, ids: bool | None = None
) -> Scenario:
    """The scenario of a seed.

    Args:
        seed: any number.
        kinds: all faults, each with the configs that it needs: "fixed", "reshaped", or "" for any.
        nodes: how many nodes; by default the seed decides.
        fault: a fault that has to be frequent, if the configs of the seed allow it.
        ids: whether ids are used; by default the seed decides.
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
    )  # swarm testing: few kinds of faults in a seed, and many faults of each
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
    id_scenario = draw_ids(seed, size + 1, ids)
    return Scenario(
        seed=seed,
        nodes=size,
        core=core,
        delay=delay,
        latency=latency,
        background=background,
        skews=drawn_skews if id_scenario is None else id_scenario.skews,
        faults=faults,
        kinds=tuple(some),
        gap=gap,
        hurry=hurry,
        config=config,
        buffer_bytes=buffer_bytes,
        options=options,
        counters=counters if id_scenario is None else (1000,),
        at_once=random.choice((0.0, 0.0, 0.5, 1.0)),
        alone=random.choice((0.0, 0.0, 0.0, 0.7, 2.5)),
        ids=id_scenario,
    )
