"""Which accepted link goes on with what another one has left of a transfer, and what is told of all that is unfinished.

What a member's link leaves unfinished is kept for a while for the next link of the same boot: see `core/kept.py`. It
is dropped when another boot of that node says hello, and when this node's own identity changes.
"""

from collections.abc import Collection
from itertools import chain
from typing import Protocol

import trio

from gcount.core.format.chunks import Assembly
from gcount.core.options import Options
from gcount.core.protocol import messages
from gcount.core.protocol.replication import DeltaReceiver
from gcount.core.protocol.suspended_transfers import SuspendedTransfers
from gcount.core.state.counters import Digest, highest


class Accepted(Protocol):
    """What has to be known of an accepted link."""

    hello: messages.Hello
    receiver: DeltaReceiver
    scope: trio.CancelScope

    @property
    def buffered(self) -> int:
        """How many cells of an unfinished push are buffered for it."""

    @property
    def is_member(self) -> bool:
        """Whether a member of the cluster is at the other end."""


class Handover:
    """Passes unfinished transfers from link to link.

    Args:
        links: all that are open.
        max_cells: how many cells may be kept of all links, those that are over included.
        options: how much is kept of links that are over.
    """

    def __init__(self, links: Collection[Accepted], max_cells: int, options: Options) -> None:
        self.kept = SuspendedTransfers(max_cells, options)
        self._max_cells = max_cells
        self._links = links

    def seen(self, incarnations: Collection[bytes]) -> Digest:
        """The highest versions of some incarnations in all that members have pushed and that is not durable (yet).

        What others push may be anything, and who asks would take it for this node's word.
        """
        pushed = (link.receiver.deltas() for link in self._links if link.is_member)
        return highest(chain(self.kept, *pushed), incarnations)

    @property
    def strangers_buffered(self) -> int:
        """How many cells are kept of unfinished pushes of nodes that are no members."""
        return sum(link.buffered for link in self._links if not link.is_member)

    def admits(self, link: Accepted) -> bool:
        """Whether what has come on a link, and is not whole, may be kept.

        When all together are too much the biggest transfer goes on, so that one after the other comes to its end. What
        else there is begins anew.
        """
        if link.receiver.given_up:
            return False
        others = sorted((other for other in self._links if other is not link and other.buffered), key=_size)
        left = self._max_cells - link.buffered  # for all others
        if self.kept.cells + sum(map(_size, others)) <= left:
            return True
        if link.buffered < max(self.kept.biggest, *map(_size, others[-1:]), 0):
            return False
        self.kept.shrink(left - sum(map(_size, others)))
        while others and sum(map(_size, others)) > left:
            others.pop(0).receiver.give_up()
        return True

    def left_by(self, link: Accepted) -> None:
        """A link is over. Of one that this node ended on purpose nothing may come back."""
        left = link.receiver.leave()
        if left is not None and link.is_member and not link.scope.cancel_called:
            self.kept.keep(link.hello.node, link.hello.start_id, left, trio.current_time())

    def left_for(self, caller: Accepted) -> Assembly | None:
        """What another link of the caller's boot has left of the transfer that the caller would go on with.

        That link may be open still, as half of a connection that was lost: whatever comes on it now comes too late.
        """
        hello = caller.hello
        if not hello.resumes or not caller.is_member:
            return None
        for link in self._links:
            if link.receiver.transfer == hello.resumes and (link.hello.node, link.hello.start_id) == (
                hello.node,
                hello.start_id,
            ):
                link.scope.cancel()
                return link.receiver.leave()
        return self.kept.take(hello.node, hello.start_id, hello.resumes, trio.current_time())


def _size(link: Accepted) -> int:
    return link.buffered
