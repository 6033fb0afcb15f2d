"""Faults that reach a limit."""

from __future__ import annotations

import trio

from tests.simulation.campaign.nemesis import Nemesis, Skipped

LONGEST = 1.3  # seconds from a start to the increment that needs a new incarnation


async def many_lives(nemesis: Nemesis) -> None:
    """A node restarts beside a dead member and counts, again and again, until no incarnation is left.

    Each start begins one, as the dead member can't confirm. Then increments that need a new incarnation are refused,
    and everything else goes on. When the member is back, increments are taken again.
    """
    if nemesis.twin is not None:
        raise Skipped
    with nemesis.host() as dead, nemesis.host() as host:
        await nemesis.kill(dead)
        refused = 0
        while refused < 2:
            before = host.node.replica.identity.incarnation
            await nemesis.kill(host, power=False)
            if not await nemesis.start(host):
                return
            deadline = trio.current_time() + LONGEST
            while trio.current_time() < deadline and host.node.replica.identity.incarnation == before:
                await nemesis.clients.write(host, plain=True)
                await trio.sleep(0.05)
            replica = host.node.replica
            refused += replica.identity.incarnation == before
            if nemesis.lives_run_out:
                break
        nemesis.note(f"{host.address} knows {host.node.parts.context.pending.incarnations} incarnations")
        await nemesis.some_time()
        await nemesis.revive(dead)
