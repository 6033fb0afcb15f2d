"""After all faults: time goes on until all ids are settled, while counters are still read."""

from __future__ import annotations

from itertools import count

import trio

from gcount.cluster.settling import MUCH_LATER
from tests.fakes.cluster import Host
from tests.simulation.campaign.ids import AHEAD
from tests.simulation.campaign.nemesis import Nemesis

SPAN = 1.0  # seconds of ids that are settled together
SOME = 2.0  # seconds: promises and heartbeats come now and then, and nodes settle one after another
PAUSES = 1 / 6  # of the window from one promise to the next


async def settle_all(nemesis: Nemesis) -> None:
    """Set all clocks right, and read until all ids are settled; if they are not in time, note why."""
    cluster, history, clients = nemesis.cluster, nemesis.history, nemesis.clients
    for host in cluster.hosts:
        nemesis.recorder.set_clock(host, 0.0)
    nemesis.note("no id is sent any more")
    latest = trio.current_time() + AHEAD + history.window * (MUCH_LATER * 1.25 + 3 * PAUSES) + 2 * SPAN + SOME
    for turn in count():
        running = [host for host in cluster.hosts if host.running]
        live = {host.address: number for host in running if (number := host.node.replica.counters.entries.live)}
        if not live or trio.current_time() > latest:
            break
        await trio.sleep(0.25)
        await clients.query(running[turn % len(running)], clients.names[turn % len(clients.names)], 2.0)
        for host in running:
            if host.running:
                nemesis.recorder.sample(host)
    if live:
        history.held_back = f"{live}: {[_held(host) for host in running]}"
    await trio.sleep(history.window * PAUSES + SPAN)


def _held(host: Host) -> str:
    return f"{host.address}: {host.node.parts.settling.statistics().held}"
