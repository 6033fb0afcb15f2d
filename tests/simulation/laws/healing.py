"""Law: once all nodes are up and all links work, all nodes have the exact values within two seconds.

Some cases may take longer:

- Five seconds instead of two, if something can only come by way of a third node, which waits a second before it
  relays; or if it was first offered to a node that could not take it yet, as two nodes ran with one directory.
- Three more, if a repaired node has to be certain that no member can fill a gap.
- Up to a minute, if a copy has counted more under a node's incarnation than the node itself, and the node has begun
  this incarnation less than a minute ago because others said so: it does that once a minute at most.
- A round trip for each further push with something new on the busiest link. What is one push in a real cluster is cut
  into many here (see sizes.py), and each waits for the one before.

From then on each node answers consistent reads, except of counters with ids that an incarnation with two histories has
settled: nodes that have different ones of its histories do not agree on these.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History, Query
from tests.simulation.laws.settlements import doubtful_units

WITHIN = 2.0
RELAYED_WITHIN = 5.0
GAPS_WITHIN = 3.0


def violations(history: History) -> Iterator[str]:
    """A violation if the healing took too long."""
    if not history.config_agreed:
        yield "the members never agreed on one of the configs that had been posted"
    limit = (RELAYED_WITHIN if history.relayed else WITHIN) + (GAPS_WITHIN if history.repaired else 0.0)
    limit += history.claim_pause
    limit += history.round_trip * max((len(contents) - 1 for contents in history.pushed.values()), default=0)
    if history.healed_after is None:
        yield "the nodes never agreed after the end of all faults"
    elif history.healed_after > limit:
        yield f"healing took {history.healed_after:.2f} s; at most {limit:.2f} s are allowed"
    elif unanswered := [f"{query.name} at {query.host}" for query in history.last_queries if _should(history, query)]:
        yield f"consistent reads were not answered after the end of all faults: {', '.join(unanswered)}"


def _should(history: History, query: Query) -> bool:
    """Whether a read was not answered, and should have been."""
    return query.value is None and not doubtful_units(history).get(query.name)
