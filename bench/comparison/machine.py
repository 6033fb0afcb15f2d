"""The machine that a comparison ran on, and how much of it other programs used meanwhile."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

from bench.comparison.programs import version
from bench.persistence import sync_time

PROGRAMS = ("redis-server", "etcd", "postgres", "wrk", "redis-benchmark", "pgbench")


def about(folder: Path) -> dict[str, str]:
    """The machine, its disk below the folder, and the versions of all programs."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": f"{os.cpu_count()} x {model[1] if model else platform.machine()}",
        "memory": f"{size / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "a sync of the disk": sync_time(folder),
        "gcount's Python": platform.python_version(),
        **{program: version(program) for program in PROGRAMS},
    }


class Others:
    """The processor time that is used by programs which this process has not started."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), _busy() - _own()

    def share(self) -> float:
        """The share of one processor since this object was made. Programs that this process started must have ended."""
        return (_busy() - _own() - self._before) / (time.monotonic() - self._began)


def _busy() -> float:
    """The processor time that this machine has used, or that its host has withheld, in seconds."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """The processor time of this process, and of all programs that it has started and that have ended, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
