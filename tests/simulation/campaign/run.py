"""One seed: a whole run, and the verdict of the laws."""

from __future__ import annotations

import gc
import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import structlog
import trio
from trio.testing import MockClock

from gcount.core.state.counters import Digest
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.state.settlements import state_of
from gcount.errors import LogDamaged
from tests.fakes.cluster import Host, SimCluster, address_of, replayed
from tests.fakes.process import seed_scheduler, until
from tests.simulation.campaign.clients import Clients
from tests.simulation.campaign.film import Film, direct_logs
from tests.simulation.campaign.history import Final, History, Keyed
from tests.simulation.campaign.nemesis import Fault, Nemesis
from tests.simulation.campaign.quiet import SPAN, settle_all
from tests.simulation.campaign.recorder import Recorder
from tests.simulation.campaign.scenario import Scenario, draw
from tests.simulation.faults import copies, disks, forgetting, forgetting_together, machines, repair
from tests.simulation.faults import ids as faults_ids
from tests.simulation.faults import limits as faults_limits
from tests.simulation.faults import names as faults_names
from tests.simulation.laws import LAWS

AGREED_WITHIN = 10.0  # simulated seconds in which the nodes have to agree
BEYOND_THE_LIMIT = ("survival", "agreement", "healing")  # laws that nodes can't keep with too many incarnations
ASKED_AGAIN = (0.5 * SPAN, 0.7 * SPAN, 0.3 * SPAN)  # seconds after which a read is asked for once more
SHOWN = 5  # violations of one law that are shown

CATALOG: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        machines.power_loss,
        machines.kill_9,
        machines.stop,
        machines.crash_at_any_await,
        machines.crash_at_a_disk_operation,
        machines.crash_in_a_checkpoint,
        machines.pause,
        machines.everybody_down,
        machines.disk_operation_fails,
        machines.disk_full,
        machines.slow_disk,
        machines.rot,
        machines.slow_network,
        machines.lost_connections,
        machines.one_way_cut,
        machines.pair_cut,
        machines.halves,
        forgetting.lost_directory,
        forgetting.lost_directory_under_a_read,
        forgetting.older_copy,
        forgetting.older_copy_at_once,
        forgetting.second_node,
        forgetting.reshape,
        repair.repaired_rot,
        repair.repaired_rot_of_two,
        faults_names.address_moves,
        faults_names.stale_name,
        faults_names.echo,
        faults_limits.many_lives,
        copies.copy_at_its_address,
        disks.no_space_for_a_name,
        disks.no_space_at_a_sync,
        disks.no_descriptor,
        disks.crash_in_a_batch,
        disks.very_slow_disk,
        disks.clock_jump,
        faults_ids.clock_steps_back,
        faults_ids.reached_by_nobody,
        forgetting_together.two_directories,
        forgetting_together.relay_held_up,
        forgetting_together.relay_outlives_its_sender,
    )
}
_FIXED = (
    "older_copy",
    "older_copy_at_once",
    "second_node",
    "repaired_rot",
    "repaired_rot_of_two",
    "address_moves",
    "stale_name",
    "echo",
    "many_lives",
    "copy_at_its_address",
    "two_directories",
    "relay_held_up",
    "relay_outlives_its_sender",
    "very_slow_disk",
)
NEEDS = {"reshape": "reshaped", "clock_steps_back": "ids", "reached_by_nobody": "ids", **dict.fromkeys(_FIXED, "fixed")}
KINDS = {name: NEEDS.get(name, "") for name in CATALOG}


@dataclass
class Result:
    """The result of a seed."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    increments: int = 0
    reads: int = 0
    healed_after: float = 0.0
    simulated: float = 0.0
    cost: float = 0.0  # seconds of a core
    film: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """A hash of all events: equal for two runs that were the same."""
        return hashlib.sha256("\n".join(self.film).encode()).hexdigest()


def run_seed(
    seed: int, nodes: int | None = None, *, fault: str | None = None, ids: bool | None = None, rolling: bool = False
) -> Result:
    """Run a seed and judge it.

    Args:
        seed: the seed.
        nodes: how many nodes; by default the seed decides.
        fault: a fault that has to be frequent, if the configs of the seed allow it.
        ids: whether clients send ids; by default the seed decides.
        rolling: whether to make a film.
    """
    scenario, history, film = draw(seed, KINDS, nodes, fault, ids), History(), Film(rolling=rolling)
    result, started = Result(seed), time.process_time()
    if scenario.ids is not None:
        history.window, history.most_ids = scenario.ids.window, scenario.ids.most
    history.most_lives = scenario.options.max_incarnations
    history.limits = {address_of(number): scenario.max_counters(number) for number in range(1, 10)}
    with _surroundings(film):
        try:
            result.simulated = trio.run(_simulate, scenario, history, film, clock=MockClock(autojump_threshold=0))
        except Exception as error:
            result.violations.append("the run broke: " + "".join(traceback.format_exception(error)))
    for name, law in LAWS.items():
        if history.too_many_lives and name in BEYOND_THE_LIMIT:
            continue
        if not result.violations or history.finals:
            found = list(law(history))
            result.violations += [f"{name}: {violation}" for violation in found[:SHOWN]]
    result.faults = +history.faults
    result.increments = sum(one.acknowledged for one in history.increments)
    result.increments += sum(one.acknowledged for one in history.sent)
    result.reads = sum(query.value is not None and not query.began_alone for query in history.queries)
    result.healed_after = history.healed_after or 0.0
    result.cost = time.process_time() - started
    result.film = film.lines
    return result


@contextmanager
def _surroundings(film: Film) -> Iterator[None]:
    config = structlog.get_config()
    direct_logs(film)
    gc.collect()
    gc.disable()  # otherwise the moment at which cycles are collected would depend on what ran before
    try:
        yield
    finally:
        gc.enable()
        structlog.configure(**config)


async def _simulate(scenario: Scenario, history: History, film: Film) -> float:
    seed_scheduler(scenario.seed)
    began = trio.current_time()
    film.add("NEMESIS", f"{scenario}")
    film.add("NEMESIS", f"limits of counters: {history.limits}")
    async with trio.open_nursery() as nursery:
        cluster = SimCluster(nursery, Random(scenario.seed), scenario.delay, scenario.options)
        cluster.at_once = scenario.at_once
        cluster.network.buffer_bytes = scenario.buffer_bytes
        if scenario.ids is not None:
            cluster.retry_window, cluster.max_ids = scenario.ids.window, scenario.ids.most
        recorder = Recorder(cluster, history, film)
        clients = Clients(scenario, cluster, recorder)
        nemesis = Nemesis(scenario, cluster, clients, recorder, nursery)
        cluster.processes.too_long = nursery.cancel_scope.cancel
        with cluster.processes.watching():
            await _set_up(scenario, nemesis)
            nursery.start_soon(clients.run)
            await _configure(scenario, nemesis)
            await nemesis.run(CATALOG)
            if not any(host.running and host.node.config()["actors"] for host in cluster.hosts):
                await clients.post(cluster[1], cluster.addresses)  # all directories were lost
            with trio.move_on_after(30):
                await until(lambda: clients.enough, 0.05)
            machines.cut_off_some(nemesis)
            await nemesis.some_time()
            if scenario.reshapes:
                await forgetting.conflict(nemesis, address_of(8), address_of(9))
            await clients.quiet()
            await _heal(nemesis)
            if scenario.ids is not None and history.healed_after is not None:
                await settle_all(nemesis)
            for host in cluster.hosts:
                if host.running:
                    history.finals.append(await _final(host, recorder.line(host.address)))
        history.over = True
        nursery.cancel_scope.cancel()
    return trio.current_time() - began


async def _set_up(scenario: Scenario, nemesis: Nemesis) -> None:
    nemesis.history.members = frozenset(address_of(number) for number in scenario.core)
    for number in range(scenario.nodes):
        host = nemesis.cluster.add()
        host.disk.latency = scenario.latency
        host.disk.background = scenario.background
        nemesis.recorder.set_clock(host, scenario.skews[number])
        host.max_counters = nemesis.history.limits[host.address]
        nemesis.recorder.directory(host)
        await nemesis.start(host)


async def _configure(scenario: Scenario, nemesis: Nemesis) -> None:
    """Post the first config in the way and at the time of the scenario, and wait until it is in force everywhere."""
    cluster, clients = nemesis.cluster, nemesis.clients
    await trio.sleep(scenario.alone)
    if scenario.alone and nemesis.random.random() < 0.5:
        await nemesis.kill(cluster[1], power=nemesis.random.random() < 0.5)
        await nemesis.revive(cluster[1])
    core = [cluster[number].address for number in scenario.core]
    hosts = {"one": cluster.hosts[-1:], "all": cluster.hosts, "twice": cluster.hosts[:2]}[scenario.config]
    async with trio.open_nursery() as nursery:
        for host in hosts:
            other = scenario.config == "twice" and host is hosts[0]
            nursery.start_soon(clients.post, host, core if other else cluster.addresses)
    if not await _agreed(cluster, 1.0, membership_only=True):
        await clients.post(cluster[1], cluster.addresses)
        await _agreed(cluster, 3.0, membership_only=True)


async def _heal(nemesis: Nemesis) -> None:
    cluster, clients, history = nemesis.cluster, nemesis.clients, nemesis.history
    await nemesis.heal()
    started = trio.current_time()
    history.healing, history.round_trip = True, sum(nemesis.scenario.delay)
    nemesis.note("all is well from now on")
    with trio.move_on_after(AGREED_WITHIN):
        await until(lambda: len(_configs(cluster)) == 1)
        history.config_agreed = True
    agreed = trio.current_time()
    await copies.copy_stands_alone(nemesis)
    started += trio.current_time() - agreed
    await clients.post(cluster[nemesis.scenario.core[0]], cluster.addresses)
    history.claim_pause = _claim_pause(cluster)
    if await _agreed(cluster, history.claim_pause + AGREED_WITHIN):
        history.healed_after = trio.current_time() - started
    for host in cluster.hosts:
        for name in clients.names:
            if host.running and (host.number == 1 or name == "x0"):
                await clients.query(host, name, 2.0)
                for pause in ASKED_AGAIN if nemesis.scenario.options.max_unsent_pushes == 1 else ():
                    # If the limit of unsent bytes is tiny, a question may be dropped that a real node never drops. What
                    # leaves no place for it may come each second: without a pause, the next one would be dropped, too.
                    if history.queries[-1].value is None:
                        await trio.sleep(pause)
                        await clients.query(host, name, 2.0)
                history.last_queries.append(history.queries[-1])


def _claim_pause(cluster: SimCluster) -> float:
    """How long a node may go on under an incarnation of which others have more, as it believes one claim a minute.

    Returns:
        The longest of these times, in seconds.
    """
    hosts = [host for host in cluster.hosts if host.running and host.node.recovered]
    pauses = [0.0]
    for host in hosts:
        replica = host.node.replica
        known = max(other.node.replica.counters.digest().get(replica.identity.incarnation, 0) for other in hosts)
        if known > replica.version:
            pauses.append(host.node.parts.guard.next_claim - trio.current_time())
    return max(pauses)


def _configs(cluster: SimCluster) -> set[Membership]:
    """All memberships that are in force; nodes that know of no config are left out."""
    configs = {host.node.replica.membership for host in cluster.hosts if host.running and host.node.recovered}
    return configs - {Membership()} or configs


async def _agreed(cluster: SimCluster, within: float, *, membership_only: bool = False) -> bool:
    with trio.move_on_after(within):
        await until(lambda: _agree(cluster, membership_only=membership_only))
        return True
    return False


def _agree(cluster: SimCluster, *, membership_only: bool) -> bool:
    """Whether all nodes have the same state. Incarnations under which two processes still write are left out."""
    if not all(host.running and host.node.recovered for host in cluster.hosts):
        return False
    replicas = [host.node.replica for host in cluster.hosts]
    first, running = replicas[0], Counter(replica.identity.incarnation for replica in replicas)

    def versions(replica: Replica) -> Digest:
        return {who: version for who, version in replica.counters.digest().items() if running[who] < 2}

    if not membership_only and any(host.node.parts.context.pending.staging for host in cluster.hosts):
        return False
    if any(list(replica.membership.actors) != sorted(cluster.addresses) for replica in replicas):
        return False
    return membership_only or all(
        not any(who in replica.identity.retired for who in replica.detached.incarnations())
        and versions(replica) == versions(first)
        and replica.membership == first.membership
        for replica in replicas
    )


async def _final(host: Host, line: str) -> Final:
    replica, damage = host.node.replica, ""
    try:
        again = await replayed(host.disk, host.cluster.options)
    except LogDamaged as error:
        again, damage = Replica(replica.identity, 0), str(error)
    return Final(
        host.address,
        dict(replica.counters.items()),
        replica.counters.digest(),
        replica.membership,
        replica.identity,
        dict(again.counters.items()),
        again.counters.digest(),
        again.membership,
        again.identity,
        damage,
        line,
        tuple(replica.detached.deltas()),
        host.node.parts.forks.shown,
        _values(replica),
        _keyed(replica),
        _keyed(again),
        replica.counters.entries.live,
    )


def _values(replica: Replica) -> dict[str, int]:
    names = replica.counters.names(0, len(replica.counters))
    return dict(zip(names, replica.counters.totals_of(names), strict=True))


def _keyed(replica: Replica) -> Keyed:
    return dict(replica.counters.entries.items()), state_of(replica.counters.settlements)
