"""Readers for the output of wrk, redis-benchmark and pgbench."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable

from bench.client import Failed
from bench.comparison.results import Reading
from bench.report import percentile

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = r"([0-9.]+)(us|ms|s|m|h)"


def wrk(text: str) -> Reading:
    """Read what `wrk --latency` prints.

    Raises:
        Failed: it is something else, or not every request was answered well.
    """
    if wrong := re.search(r"(Socket errors|Non-2xx or 3xx responses): *(.+)", text):
        raise Failed(f"wrk: {wrong[1].lower()}: {wrong[2]}")
    rate = re.search(r"Requests/sec: *([0-9.]+)", text)
    p50, p99 = (re.search(rf"^ *{percent}% +{_TIME}$", text, re.MULTILINE) for percent in (50, 99))
    worst = re.search(rf"Latency +{_TIME} +{_TIME} +{_TIME}", text)
    if rate is None or p50 is None or p99 is None or worst is None:
        raise Failed(f"wrk said: {text.strip()}")
    return Reading(float(rate[1]), _seconds(*p50.groups()), _seconds(*p99.groups()), _seconds(*worst.groups()[4:]))


def _seconds(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]


def wrk_increments(text: str) -> Reading:
    """Read from the output of the script cas.lua how many increments succeeded.

    Raises:
        Failed: it does not say, or something went wrong.
    """
    wrk(text)
    done = re.search(r"^increments: ([0-9]+) in ([0-9.]+) s$", text, re.MULTILINE)
    if done is None:
        raise Failed(f"wrk said: {text.strip()}")
    return Reading(float(done[1]) / float(done[2]))


def redis_benchmark(text: str) -> Reading:
    """Read what `redis-benchmark --csv` prints about its one test.

    Raises:
        Failed: it is something else, an error for example.
    """
    rows = list(csv.DictReader(text.splitlines()))
    try:
        (row,) = rows
        p50, p99, worst = (float(row[f"{which}_latency_ms"]) / 1000 for which in ("p50", "p99", "max"))
        return Reading(float(row["rps"]), p50, p99, worst)
    except (ValueError, KeyError, TypeError):
        raise Failed(f"redis-benchmark said: {text.strip()}") from None


def pgbench(text: str, log: Iterable[str]) -> Reading:
    """Read what pgbench prints, and its log of all transactions.

    Raises:
        Failed: it is something else, or transactions failed.
    """
    failed = re.search(r"number of failed transactions: ([0-9]+)", text)
    rate = re.search(r"tps = ([0-9.]+) \(without initial connection time\)", text)
    if rate is None or (failed and failed[1] != "0"):
        raise Failed(f"pgbench said: {text.strip()}")
    times = [int(line.split(" ")[2]) / 1e6 for line in log]
    if not times:
        raise Failed("pgbench logged no transaction")
    return Reading(float(rate[1]), percentile(times, 50), percentile(times, 99), max(times))
