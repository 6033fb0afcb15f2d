"""Guards the private parts of trio on which the replay of a seed depends."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add
from tests.fakes.process import Processes, run_simulated, within
from tests.simulation.campaign.run import run_seed

ROOT = Path(__file__).resolve().parents[2]


async def run(seed: int) -> list[tuple[str, str, bytes]]:
    messages: list[tuple[str, str, bytes]] = []
    async with open_cluster(3, seed=seed) as cluster:
        cluster.network.tap = lambda *message: messages.append(message)
        for host in cluster.hosts * 3:
            await add(host.node, "x", host.number)
            await host.restart()
        await cluster.converged("x", 18)
    return messages


def wire_of(seed: int) -> list[tuple[str, str, bytes]]:
    return run_simulated(partial(run, seed))


def test_the_same_seed_replays_the_same_run() -> None:
    assert wire_of(1) == wire_of(1)


def test_another_seed_is_another_run() -> None:
    assert wire_of(1) != wire_of(2)


def film_of(seed: int, option: str, hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-P", "-m", "tests.simulation", "--seed", str(seed), option]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("seed", "option"), [(7, "--no-ids"), (2, "--ids")])
def test_a_seed_is_the_same_event_for_event_in_other_processes_with_other_hash_seeds(seed: int, option: str) -> None:
    film = film_of(seed, option, 1)
    assert film.count("\n") > 1000
    assert film_of(seed, option, 2) == film
    assert "\n".join(run_seed(seed, ids=option == "--ids", rolling=True).film) == film[: film.rindex("\n\nseed")]


TICK = 1.0  # seconds


async def tick(process: str, ticks: list[str]) -> None:
    with within(process):
        while True:
            await trio.sleep(TICK)
            ticks.append(process)


async def test_a_stopped_process_takes_no_step_until_it_is_resumed(autojump_clock: MockClock) -> None:
    processes, ticks = Processes(), list[str]()
    with processes.watching():
        async with trio.open_nursery() as nursery:
            for process in ("one", "other"):
                nursery.start_soon(tick, process, ticks)
            await trio.sleep(2.5 * TICK)  # halfway between two ticks
            processes.stop("one")
            await trio.sleep(3 * TICK)
            assert (ticks.count("one"), ticks.count("other")) == (2, 5)
            processes.resume("one")
            await trio.sleep(0.5 * TICK)  # not at the instant of the tick after the next
            assert ticks.count("one") == 3
            nursery.cancel_scope.cancel()


async def test_a_process_can_be_stopped_after_a_number_of_steps(autojump_clock: MockClock) -> None:
    processes, ticks = Processes(), list[str]()
    with processes.watching():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick, "one", ticks)
            await trio.sleep(0.5 * TICK)  # before the first tick
            stopped = trio.Event()
            processes.stop_after("one", 3, stopped.set)
            await stopped.wait()
            assert trio.current_time() > 2 * TICK
            await trio.sleep(10 * TICK)
            assert ticks.count("one") == 2
            processes.resume("one")
            nursery.cancel_scope.cancel()
