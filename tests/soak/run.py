"""One run: a cluster in network namespaces, clients, a nemesis, and the final values."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.harness import detour, tmpfs
from tests.harness.checkpointing import made, write_launcher
from tests.harness.cluster import namespace_nodes, running, take_ids
from tests.harness.namespaces import Network
from tests.harness.processes import REPOSITORY, Node
from tests.harness.tmpfs import Filesystem
from tests.soak.caller import Caller
from tests.soak.history import Ending, Final, History, Soak
from tests.soak.machine import Clock, EndedByItself, Machine
from tests.soak.nemesis import Nemesis
from tests.soak.plan import DELAY, FULL, KINDS, LOSS, Step, draw_steps
from tests.soak.workload import Load

TIMEOUT = 1  # CHALLENGE_TIMEOUT of the nodes: many short waits show more than few long ones
READ_WITHIN = 60.0  # seconds for all final reads
SETTLED_WITHIN = 60.0  # seconds after the nodes' retry window and their grace
FINAL_READERS = 4  # on each node
MEGABYTES = 64  # of each disk, and
MEGABYTES_A_MINUTE = 8


@dataclass(frozen=True)
class Wish:
    """The settings of a run.

    Attributes:
        nodes: how many nodes.
        seconds: for how long faults happen.
        seed: of the faults and of the clients' choices.
        pace: increments a second that each node is sent.
        window: the nodes' retry window, in seconds.
        settles: whether the run goes on without increments until all ids are settled.
        steps: the faults; by default the plan of the seed, until the time is over.
    """

    nodes: int = 3
    seconds: float = 60.0
    seed: int = 0
    pace: float = 20.0
    window: int = 60
    settles: bool = True
    steps: Sequence[Step] | None = None


def abilities() -> tuple[tuple[str, ...], list[str]]:
    """The kinds of faults that can be made here, and notes on how, or why not."""
    kinds, notes = list(KINDS), []
    with tempfile.TemporaryDirectory() as base:
        if reason := tmpfs.why_not(Path(base)):
            kinds.remove(FULL)
            notes.append(f"No full disks: {reason}")
    try:
        notes.append(f"Delay and loss are made by {detour.probe()}")
    except OSError as error:
        kinds = [kind for kind in kinds if kind not in (DELAY, LOSS)]
        notes.append(f"No delay and no loss: {error}")
    return tuple(kinds), notes


async def run(wish: Wish, history: History, logs: Path, on_step: Callable[[str], None] = lambda text: None) -> None:
    """Fill the history.

    Args:
        wish: the settings of the run.
        history: an empty history.
        logs: a folder for the nodes' logs.
        on_step: called with a text at each step.
    """
    kinds, notes = abilities()
    history.add(Soak(wish.seed, wish.nodes, wish.seconds, wish.pace, notes, wish.window * wish.settles))
    clock = Clock()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gcount-soak-")))
        network = stack.enter_context(Network(wish.nodes))
        settings = {"CHALLENGE_TIMEOUT": str(TIMEOUT), "GCOUNT_RETRY_WINDOW": str(wish.window)}
        nodes = namespace_nodes(base, network, env=settings)
        machines, launcher = [], write_launcher(base)
        for node in nodes:
            node.launcher = launcher
            disk = stack.enter_context(_small_disk(node, wish, base)) if FULL in kinds else None
            machines.append(Machine(node, disk, history, clock))
        try:
            async with running(*nodes, configured=True):
                try:
                    await _live(wish, kinds, network, machines, on_step)
                except* EndedByItself:
                    pass  # the judge finds it in the history
        finally:
            for node in nodes:
                _keep(node.stderr_path, logs)


@contextmanager
def _small_disk(node: Node, wish: Wish, base: Path) -> Iterator[Filesystem]:
    """A small file system for the data directory of a node."""
    assert node.data_dir is not None
    megabytes = MEGABYTES + int(MEGABYTES_A_MINUTE * wish.seconds / 60)
    with tmpfs.mounted(base / f"disk-{node.number}", megabytes * 2**20) as disk:
        node.data_dir.symlink_to(disk.path)
        yield disk


def _keep(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if file.exists():
        (folder / file.name).write_bytes(file.read_bytes())


async def _live(
    wish: Wish, kinds: tuple[str, ...], network: Network, machines: list[Machine], on_step: Callable[[str], None]
) -> None:
    history, clock = machines[0].history, machines[0].clock
    for machine in machines:
        await machine.wait_ready()
    load = Load(machines, wish.seed, wish.pace, wish.window)
    steps: Iterable[Step] = wish.steps or draw_steps(wish.seed, network.hosts, kinds)
    async with trio.open_nursery() as watch:
        watch.start_soon(_watch, machines)
        await take_ids([machine.node for machine in machines])  # not in the history: it is no load
        async with trio.open_nursery() as clients:
            counting = await clients.start(load.run)
            nemesis = Nemesis(network, machines, history, clock, counting)
            for step in steps:
                on_step(str(step))
                healing = await nemesis.strike(step)
                await trio.sleep(step.rest)
                if healing.equal_after is None or (wish.steps is None and clock() > wish.seconds):
                    break
            load.stop()
            await load.counted.wait()
            if wish.settles:
                on_step("waiting until all ids are settled")
                await _settle(machines, wish.window)
            load.end()
        on_step("the final reads")
        with trio.move_on_after(READ_WITHIN):
            await _read(machines, sorted({increment.name for increment in history.increments}))
        watch.cancel_scope.cancel()
    on_step("stopping the nodes")
    async with trio.open_nursery() as stops:
        for machine in machines:
            stops.start_soon(_stop, machine)


async def _watch(machines: list[Machine]) -> None:
    while True:
        for machine in machines:
            machine.check()
        await trio.sleep(0.1)


async def _settle(machines: list[Machine], window: int) -> None:
    """Wait until no node has a live id."""

    async def ask(machine: Machine) -> None:
        caller = Caller(machine)
        with trio.move_on_after(1.25 * window + SETTLED_WITHIN):
            await caller.settled()
        await caller.ids(last=True)
        caller.close()

    async with trio.open_nursery() as nursery:
        for machine in machines:
            nursery.start_soon(ask, machine)


async def _read(machines: list[Machine], names: list[str]) -> None:
    """Read the final value of every counter on every node."""

    async def look(machine: Machine, share: list[str]) -> None:
        caller = Caller(machine)
        for name in share:
            consistent: int | None = None
            value: int | None = None
            try:
                consistent = await caller.exact(name)
                value = await caller.equal(name, consistent)
            finally:  # also when the time is over: the judge finds what is missing then
                machine.history.add(Final(machine.number, name, consistent, value))
        caller.close()

    async with trio.open_nursery() as nursery:
        for machine in machines:
            for number in range(FINAL_READERS):
                nursery.start_soon(look, machine, names[number::FINAL_READERS])


async def _stop(machine: Machine) -> None:
    machine.ready = False
    node = machine.node
    code = verified = None
    with suppress(AssertionError):
        code = await node.stop()
        verify = [str(REPOSITORY / "bin" / "gcount"), "verify", str(node.data_dir)]
        verified = (await trio.run_process(verify, capture_stdout=True, capture_stderr=True, check=False)).returncode
    tracebacks = node.stderr(whole=True).count("Traceback")
    machine.history.add(Ending(machine.number, code, tracebacks, made(node), machine.interrupted, verified))
