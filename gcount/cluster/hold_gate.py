"""The gate before this node's increments, which reads of other nodes and of this one hold for a moment."""

from collections.abc import Iterable

import trio

from gcount.core.options import Options
from gcount.core.protocol.write_holds import Holds
from gcount.events import News


class HoldGate:
    """Holds, by the clock, and the increments that wait for them.

    A *sharer* is a link, or this node's own reads: each of them ends its own share only.

    Args:
        options: how many counters may be held.

    Attributes:
        holds: those that there are; what counts increments looks there first, as there are none nearly always.
    """

    def __init__(self, options: Options) -> None:
        self.holds = Holds(options)
        self._released = News()

    def ask(self, name: str, sharer: object) -> bool:
        """Begin or join a hold; returns False while the counter rests from the last one."""
        return self.holds.ask(name, sharer, trio.current_time())

    def release(self, name: str, sharer: object) -> None:
        """End a share of a hold."""
        if self.holds.release(name, sharer, trio.current_time()):
            self._released.notify()

    def release_all(self, sharer: object) -> None:
        """End all shares of a link that is gone."""
        if self.holds.release_all(sharer, trio.current_time()):
            self._released.notify()

    async def wait_unheld(self, names: Iterable[str]) -> None:
        """Return when the holds are over that keep increments of these counters waiting now; maybe no checkpoint.

        Those that begin meanwhile are not waited for, or a batch of many counters would wait for one after the other.
        """
        for hold in self.holds.in_force(names, trio.current_time()):
            while not hold.over(trio.current_time()):
                with trio.move_on_at(hold.until()):
                    await self._released.wait()
