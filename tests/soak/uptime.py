"""When each node could be expected to take increments: its process runs and is not paused, its disk has space."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from tests.soak.history import Moment

Span = tuple[float, float]


class Uptime:
    """The spans in which each node was up. The instants of kills, pauses and full disks are in none of them."""

    def __init__(self, moments: Sequence[Moment]) -> None:
        self._up: dict[int, list[Span]] = {}
        self._full: dict[int, list[Span]] = {}
        for node in {moment.node for moment in moments}:
            self._follow(node, [moment for moment in moments if moment.node == node])

    def _follow(self, node: int, moments: list[Moment]) -> None:
        up = self._up[node] = []
        full = self._full[node] = []
        ready, paused, filled = False, False, False
        since: float | None = None
        full_since = 0.0
        for moment in sorted(moments, key=lambda moment: moment.time):
            match moment.what:
                case "ready":
                    ready, paused = True, False
                case "killed" | "ended":
                    ready = False
                case "paused" | "resumed":
                    paused = moment.what == "paused"
                case "full":
                    filled, full_since = True, moment.time
                case "room":
                    filled = False
                    full.append((full_since, moment.time))
            works = ready and not paused and not filled
            if works and since is None:
                since = moment.time
            elif not works and since is not None:
                up.append((since, moment.time))
                since = None
        if since is not None:
            up.append((since, float("inf")))
        if filled:
            full.append((full_since, float("inf")))

    def was_up(self, node: int, start: float, end: float) -> bool:
        """Whether the node was up all the time from start to end."""
        spans = self._up.get(node, [])
        at = bisect_right(spans, (start, float("inf"))) - 1
        return at >= 0 and end <= spans[at][1]

    def was_full(self, node: int, start: float, end: float) -> bool:
        """Whether the node's disk was full at some time between start and end."""
        return any(began <= end and start <= ended for began, ended in self._full.get(node, []))
