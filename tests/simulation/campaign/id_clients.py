"""Clients that send increments with ids, and send them again: to the same node, to others, to several at once."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

import trio

from gcount.core.writes.increments import Add, Outcome, Raise, Together
from gcount.errors import Refusal
from tests.fakes.cluster import Host, SimCluster
from tests.simulation.campaign.amounts import Purse
from tests.simulation.campaign.history import Increment, Look, Sent
from tests.simulation.campaign.id_scenario import IdScenario
from tests.simulation.campaign.ids import Ids
from tests.simulation.campaign.recorder import Recorder
from tests.simulation.laws.survival import bits

if TYPE_CHECKING:
    from tests.simulation.campaign.clients import Clients


class IdClients:
    """All clients of a run that send ids.

    Args:
        scenario: how the run uses ids.
        cluster: the nodes to which they send requests.
        recorder: writes down what they see.
        clients: the other clients.
        purse: hands out units and amounts.
    """

    def __init__(
        self, scenario: IdScenario, cluster: SimCluster, recorder: Recorder, clients: Clients, purse: Purse
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._clients = clients
        self._random = Random(f"ids of clients {scenario}")
        self._ids = Ids(scenario, purse, self._random)
        self.share = scenario.share

    async def ask(self, host: Host) -> None:
        """Send one request with ids to a node, and maybe to others at the same time or right afterwards."""
        random = self._random
        first = self._ids.draw()
        if first is None:
            return
        if random.random() < 0.7:
            await self._send(host, self._ids.request(first, powers=self._clients.is_member(host)))
        elif random.random() < 0.5:
            await self.retry([host, random.choice(self._cluster.hosts)], first)
        else:
            async with trio.open_nursery() as nursery:
                for one in [host, *random.sample(self._cluster.hosts, random.randint(1, 2))]:
                    nursery.start_soon(self._send, one, [first])

    async def retry(self, hosts: Sequence[Host], one: Raise | None = None) -> None:
        """Send an id to some nodes, one after another.

        Args:
            hosts: their machines.
            one: the id; by default a new one, or one that was sent before.
        """
        one = one or self._ids.draw()
        for host in hosts:
            if one is not None:
                await self._send(host, [one])

    async def _send(self, host: Host, items: Sequence[Raise | Add]) -> None:
        if not (host.running and host.node.recovered):
            return
        history, random, now = self._recorder.history, self._random, trio.current_time()
        together = len(items) > 1 and random.random() < 0.4
        records = [self._record(host, one, now, together=together) for one in items]
        history.sent += [record for record in records if isinstance(record, Sent)]
        history.increments += [record for record in records if isinstance(record, Increment)]
        shown = ", ".join(map(_shown, items))
        self._recorder.film.add("client", f"sends {host.address}: {shown}")
        asked = [Together(items)] if together else items
        with self._clients.request(host) as life:
            outcome = await _through(host, asked, at_once=random.random() < 0.5)
            if life == host.lives and host.running:
                self._answered(host, records, outcome)

    def _record(self, host: Host, one: Raise | Add, now: float, *, together: bool) -> Sent | Increment:
        line, member = self._recorder.line(host.address), self._clients.is_member(host)
        if isinstance(one, Add):
            return Increment(one.name, one.amount, host.address, line, now)
        return Sent(one.name, one.id, one.total, host.address, line, now, host.clock, member, together)

    def _answered(self, host: Host, records: Sequence[Sent | Increment], outcome: Outcome) -> None:
        history, film = self._recorder.history, self._recorder.film
        for record, answer in zip(records, outcome.values, strict=True):
            record.end = trio.current_time()
            if isinstance(answer, Refusal):
                record.refused = type(answer).__name__
                film.add(host.address, f"refused {record.name}: {answer}")
                continue
            record.answer = answer
            self._clients.acknowledged += 1
            film.add(host.address, f"ACKNOWLEDGED {record.name} = {bits(answer)}")
            history.looks.append(Look(record.start, record.end, record.line, record.name, answer))
        self._recorder.sample(host)


async def _through(host: Host, asked: Sequence[Raise | Add | Together], *, at_once: bool) -> Outcome:
    """Send a request in one of the two ways that requests have."""
    told: list[Outcome] = []
    done = trio.Event()

    def tell(outcome: Outcome) -> None:
        told.append(outcome)
        done.set()

    if not at_once or not host.node.submit(asked, tell):
        return await host.node.count(asked)
    await done.wait()
    return told[0]


def _shown(one: Raise | Add) -> str:
    if isinstance(one, Add):
        return f"{one.name} += {one.amount}"
    return f"{one.name} {one.id} -> {bits(one.total)}{' once' if one.once else ''}"
