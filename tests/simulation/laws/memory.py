"""Law: when no id is sent any more and its time is over, nothing is left of ids but cells and parts.

By then all faults are over, all nodes are members, and all clocks are right. Neither a node's memory nor what a start
would make of its log holds an entry.

This is left out while ids or settlements stay detached on a member, as it does not promise then to take no more of
that time. Law *detached* judges whether they may. Ids that only an incarnation with two histories holds are left out,
too: the member that settles may have the other history, and be right that it has all. So are those that such an
incarnation has settled: a node that has the other history never learns of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History
from tests.simulation.laws.durable_state import at_the_end
from tests.simulation.laws.settlements import doubtful_keys


def violations(history: History) -> Iterator[str]:
    """Each node that still holds ids."""
    if not history.window or history.healed_after is None:
        return
    if any(run.keyed for final in history.finals for run in final.detached):
        return
    forked = at_the_end(history).forked.keys()
    if history.held_back is not None and not forked:
        yield f"ids were not settled in time: {history.held_back}"
    for final in history.finals:
        entries, _ = final.keyed or ({}, {})
        assert final.live == len(entries), "the number of ids is the number of entries"
        left = {key for key, best in entries.items() if not {one.holder for one in best.all} <= forked}
        if live := sorted(left - doubtful_keys(history)):
            yield f"{final.host} still holds {len(live)} ids: {live[0]}"
