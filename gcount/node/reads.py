"""The consistent reads that clients ask for."""

import trio

from gcount.cluster.consistent_reads import ConsistentReads, NodeStops
from gcount.cluster.context import Context
from gcount.cluster.links.peer import BACKOFF_MOST
from gcount.cluster.links.transport import CONNECT_TIMEOUT
from gcount.errors import ReadUnavailable

EMPTY_WAIT = 1.5  # seconds in which a node without a config answers no reads, so that members that know it can dial it

assert CONNECT_TIMEOUT + BACKOFF_MOST < EMPTY_WAIT, "a member dials once more within that time"


class Reads:
    """The consistent reads of a node that has recovered.

    Args:
        context: what the parts of the node share.
        consistent: asks the members.
        serving_since: when the node had recovered, in seconds of trio's clock.
    """

    def __init__(self, context: Context, consistent: ConsistentReads, serving_since: float) -> None:
        self._replica = context.replica
        self._news = context.news
        self._stopping = context.stopping
        self._consistent = consistent
        self._serving_since = serving_since

    async def value(self, name: str, timeout: float) -> int:
        """The exact value of a counter at some instant between call and return.

        Args:
            name: a valid name.
            timeout: how long to try, in seconds.

        Raises:
            ReadUnavailable: the value could not be known in time.
        """
        deadline = trio.current_time() + timeout
        if not self._replica.membership.actors:
            await self._wait_to_be_known(name, deadline)
        return await self._consistent.read(name, max(0.0, deadline - trio.current_time()))

    async def _wait_to_be_known(self, name: str, deadline: float) -> None:
        """Wait for a config for a moment, as this disk may have forgotten one, and members then bring it back."""
        known_by = self._serving_since + EMPTY_WAIT
        with trio.move_on_at(deadline):
            while trio.current_time() < known_by and not self._replica.membership.actors:
                if self._stopping.is_set:
                    raise NodeStops(self._replica.counters.total(name), [])
                with self._stopping.ends(known_by):
                    await self._news.wait()
            return
        raise ReadUnavailable(self._replica.counters.total(name), [])
