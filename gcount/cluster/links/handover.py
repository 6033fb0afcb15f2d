"""Unfinished transfers of all accepted links: which link continues them, how much of them is kept, what they contain.

When a member's link is lost, its unfinished transfer is kept for a while for the next link of the same process; see
suspended_transfers.py. It is dropped when another process of that node says hello, and when this node's own identity
changes.
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
    """An accepted link, as far as this module uses it."""

    hello: messages.Hello
    receiver: DeltaReceiver
    scope: trio.CancelScope

    @property
    def buffered(self) -> int:
        """How many cells of its unfinished transfer are buffered."""

    @property
    def is_member(self) -> bool:
        """Whether a member of the cluster is at the other end."""


class Handover:
    """Passes unfinished transfers from link to link.

    Args:
        links: the open links.
        max_cells: how many cells of unfinished transfers may be kept, for open and lost links together.
        options: how much is kept for lost links.
    """

    def __init__(self, links: Collection[Accepted], max_cells: int, options: Options) -> None:
        self.kept = SuspendedTransfers(max_cells, options)
        self._max_cells = max_cells
        self._links = links

    def seen(self, incarnations: Collection[bytes]) -> Digest:
        """The highest versions of some incarnations in all that members have pushed and that is not durable yet.

        Pushes of nodes that are not members are left out: they may contain anything, and the result is sent to others.
        """
        pushed = (link.receiver.deltas() for link in self._links if link.is_member)
        return highest(chain(self.kept, *pushed), incarnations)

    @property
    def strangers_buffered(self) -> int:
        """How many cells of unfinished transfers are buffered for nodes that are not members."""
        return sum(link.buffered for link in self._links if not link.is_member)

    def admits(self, link: Accepted) -> bool:
        """Whether the unfinished transfer of a link may stay buffered.

        When all transfers together are too large, the largest one goes on and others have to begin anew. So they end
        one after the other, and none waits for ever.
        """
        if link.receiver.given_up:
            return False
        others = sorted((other for other in self._links if other is not link and other.buffered), key=_size)
        left = self._max_cells - link.buffered  # cells for all others
        if self.kept.cells + sum(map(_size, others)) <= left:
            return True
        if link.buffered < max(self.kept.biggest, *map(_size, others[-1:]), 0):
            return False
        # Suspended transfers go first, then those of open links, the smallest ones first.
        self.kept.shrink(left - sum(map(_size, others)))
        while others and sum(map(_size, others)) > left:
            others.pop(0).receiver.give_up()
        return True

    def left_by(self, link: Accepted) -> None:
        """Keep the unfinished transfer of a link that is over, unless this node ended the link on purpose."""
        left = link.receiver.leave()
        if left is not None and link.is_member and not link.scope.cancel_called:
            self.kept.keep(link.hello.node, link.hello.start_id, left, trio.current_time())

    def left_for(self, caller: Accepted) -> Assembly | None:
        """What another link of the same process has left of the transfer that the caller wants to continue.

        That link may still be open here, when only its other end knows that the connection is lost. Nothing more is
        taken on it.
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
