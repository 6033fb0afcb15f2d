"""The run itself: all rivals side by side, each idle while another one is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import trio

from bench.client import Failed
from bench.comparison.programs import missing
from bench.comparison.results import Reading, Results
from bench.comparison.rivals import RIVALS, Server
from bench.comparison.scale import COUNTERS, SIZES, grow, starts
from bench.comparison.works import WORKS, Entry, Work

SETTLE = 0.3  # seconds between two measurements: a rival finishes its work then, and does not burden the next one
START, NODES = "start", "nodes"
NAMES = [*(work.name for work in WORKS), START, NODES]


class Comparison:
    """One run; it puts what it finds into the results.

    Args:
        only: names of the pieces of work that are wanted.
        rounds: how often each is measured.
        seconds: for how long, each time.
        folder: for all data.
        results: what was found.
    """

    def __init__(self, only: Sequence[str], rounds: int, seconds: int, folder: Path, results: Results) -> None:
        self._only, self._rounds, self._seconds = only, rounds, seconds
        self._folder, self._results = folder, results
        self._began = time.monotonic()
        self._steps = self._done = 0

    async def run(self) -> None:
        """Measure all works that are wanted and that this machine can run; those that fail are noted and left out."""
        works = [work for work in WORKS if work.name in self._only]
        async with AsyncExitStack() as stack:
            servers = await self._start(works, stack)
            possible = [
                (work, connections, entry)
                for work in works
                for connections in work.connections
                for entry in work.entries
                if entry.rival in servers and not missing(entry.tool.needs)
            ]
            warm_up = [step for step in possible if len(step[0].connections) == 1]
            self._steps = len(warm_up) + len(possible) * self._rounds
            self._steps += len(COUNTERS) * (START in self._only) + len(SIZES) * (NODES in self._only)
            self._began = time.monotonic()
            for work, connections, entry in warm_up:
                await self._measure("warm-up", work, connections, entry, servers[entry.rival])
            for number in range(1, self._rounds + 1):
                for work, connections, entry in possible:
                    reading = await self._measure(f"round {number}", work, connections, entry, servers[entry.rival])
                    if reading is not None:
                        self._results.add(work.name, entry.label, connections, reading)
        await self._scale()

    async def _start(self, works: Sequence[Work], stack: AsyncExitStack) -> dict[str, Server]:
        """Start the rivals that take part; those that are not installed or do not start are noted."""
        entries = [entry for work in works for entry in work.entries]
        for entry in entries:
            self._absent(entry.tool.needs)
        servers = {}
        for name in dict.fromkeys(entry.rival for entry in entries):
            rival = RIVALS[name]
            if self._absent(rival.needs):
                continue
            self._say(f"starting {name} ({rival.about})")
            data = self._folder / name
            data.mkdir()
            with self._noted(name):
                servers[name] = await stack.enter_async_context(rival.start(data))
        return servers

    async def _measure(self, when: str, work: Work, connections: int, entry: Entry, server: Server) -> Reading | None:
        reading = None
        data = self._folder / "tool"
        data.mkdir(exist_ok=True)
        with self._noted(f"{work.name}, {entry.label}, {connections} connections"):
            seconds = 1 if when == "warm-up" else self._seconds
            reading = await entry.tool.measure(server, connections, seconds, data)
        self._done += 1
        self._say(f"{when}: {work.name}, {connections:3} connections: {entry.label}", reading)
        await trio.sleep(SETTLE)
        return reading

    async def _scale(self) -> None:
        if START in self._only:
            for counters in COUNTERS:
                with self._noted(f"start with {counters} counters"):
                    self._results.starts += await starts(counters, self._rounds, self._folder)
                self._done += 1
                self._say(f"started with {counters:,} counters")
        if NODES in self._only:
            if self._absent(("wrk",)):
                return
            for nodes in SIZES:
                with self._noted(f"{nodes} nodes"):
                    self._results.sizes.append(await grow(nodes, self._rounds, self._seconds, self._folder))
                self._done += 1
                self._say(f"loaded {nodes} nodes")

    def _absent(self, programs: tuple[str, ...]) -> bool:
        """Whether one of the programs is not installed; if so, that is noted."""
        absent = missing(programs)
        self._results.missing += [each for each in absent if each not in self._results.missing]
        return bool(absent)

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """Note a failure inside the context, and go on."""
        try:
            yield
        except* (Failed, OSError) as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self._results.failures.append(f"{what}: {error}")
            self._say(f"FAILED: {what}: {error}")

    def _say(self, text: str, reading: Reading | None = None) -> None:
        """Print the progress: a line for each step, with an estimate of the time that is left."""
        if self._done:
            left = (time.monotonic() - self._began) / self._done * (self._steps - self._done)
            text = f"[{self._done:3}/{self._steps}, {left / 60:4.1f} min left] {text}"
        print(text + (f": {reading.rate:,.0f}/s" if reading else ""), flush=True)
