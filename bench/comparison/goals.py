"""The goals: ratios of medians of one run."""

from __future__ import annotations

from dataclasses import dataclass

from bench.comparison.results import Results


@dataclass(frozen=True)
class Goal:
    """A goal: a rival has to be at least so many times as fast as another at the same work, with 32 connections.

    Attributes:
        work: name of the piece of work.
        subject: label of the one that has the goal.
        against: label of the other.
        least: the ratio that is wanted.
    """

    work: str
    subject: str
    against: str
    least: float

    def ratio(self, results: Results) -> float | None:
        """The ratio of the medians; None if one of the two was not measured."""
        ours, theirs = results.row(self.work, self.subject), results.row(self.work, self.against)
        return None if ours is None or theirs is None else ours.rate / theirs.rate

    def verdict(self, results: Results) -> str:
        """Whether the goal was met, in words."""
        ratio = self.ratio(results)
        if ratio is None:
            return "not measured"
        return "met" if ratio >= self.least else "MISSED"


GOALS = (
    Goal("resp-hot", "gcount", "Redis", 1.0),
    Goal("resp-many", "gcount", "Redis", 0.7),
    Goal("resp-plain", "gcount", "Redis", 0.6),
    Goal("http-post", "gcount", "etcd, put", 2.5),
    Goal("http-post", "gcount", "gcount, Quart path", 8.0),
    Goal("http-get", "gcount", "gcount, Quart path", 12.0),
    Goal("hot", "gcount, HTTP", "PostgreSQL, one row", 10.0),
)
