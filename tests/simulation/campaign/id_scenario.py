"""How a run uses ids: for how long they can be sent again, and what clocks show."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

FAR = 3600.0  # seconds


@dataclass(frozen=True)
class IdScenario:
    """How a run uses ids.

    Args:
        window: for how many seconds after its time an id is taken; a quarter of it is the grace.
        most: how many ids that are not settled a node takes from clients.
        skews: by how many seconds the wall clock of each machine is wrong.
        share: the share of the requests that send an id.
        new: the share of these that send an id which was not sent before.
        jumps: by how many seconds a clock may be wrong after it was changed.
        faults: the share of the faults of ids that may happen.
    """

    window: float
    most: int
    skews: tuple[float, ...]
    share: float
    new: float
    jumps: tuple[float, ...]
    faults: float

    def kinds(self, allowed: list[str], fault: str | None, others: int) -> list[str]:
        """The faults of ids that may happen.

        Args:
            allowed: all faults of ids.
            fault: a fault that has to be frequent, if it is one of these.
            others: how many other faults may happen.
        """
        random = Random(f"faults of ids {self}")
        some = [kind for kind in allowed if random.random() < self.faults]
        return [fault] * 2 * others if fault in allowed else some


def draw_ids(seed: int, size: int, use: bool | None = None) -> IdScenario | None:
    """How a seed uses ids, independently of the rest of its scenario.

    Args:
        seed: any number.
        size: how many machines there are, and one more.
        use: whether ids are used; by default the seed decides.
    """
    random = Random(f"ids {seed}")
    used = random.random() < 0.5
    if not (used if use is None else use):
        return None
    window = random.choices((1.5, 2.0, 3.0, 8.0), (3, 5, 4, 1))[0]  # with the longest, the grace is longer than a span
    within = window / 8  # two clocks are a grace apart at most
    skews = [random.choice((0.0, random.uniform(-within, within))) for _ in range(size)]
    jumps = [-within, 0.0, within]
    if random.random() < 0.4:  # the promise ends where a clock is so wrong and its node forgets
        beyond = (-window, -window, window, -FAR, FAR)
        skews[random.randrange(size)] = random.choice(beyond)
        jumps += [*beyond]
    most = random.choice((3, 8, 1000, 1000))
    share, new, faults = random.choice((0.2, 0.4, 0.6)), random.choice((0.25, 0.4)), random.choice((0.0, 0.5, 1.0))
    return IdScenario(window, most, tuple(skews), share, new, tuple(jumps), faults)
