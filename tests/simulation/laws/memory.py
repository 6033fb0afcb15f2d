"""Law: when no id is sent any more and its time is over, nothing is left of ids but cells and parts.

By then all faults are over, all nodes are members, and all clocks are right. Neither a node's memory nor what a start
would make of its log holds an entry.

This is left out while ids or settlements stay detached on a member, as it does not promise then to take no more of
that time. Law *detached* judges whether they may.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History


def violations(history: History) -> Iterator[str]:
    """Each node that still holds ids."""
    if not history.window or history.healed_after is None:
        return
    if any(run.keyed for final in history.finals for run in final.detached):
        return
    if history.held_back is not None:
        yield f"ids were not settled in time: {history.held_back}"
    for final in history.finals:
        if final.live:
            yield f"{final.host} still holds {final.live} ids"
