"""The gate before this node's increments, which consistent reads of this node and others close for a moment."""

from collections.abc import Iterable

import trio

from gcount.core.options import Options
from gcount.core.protocol.write_holds import Holds
from gcount.events import News


class HoldGate:
    """The holds by trio's clock, and the increments that wait for them.

    A *sharer* is a link, or this node's own reads. Each of them can end only its own part in a hold.

    Args:
        options: how many counters may be held at the same time.

    Attributes:
        holds: the holds. The path of increments looks here first, as there are almost never any.
    """

    def __init__(self, options: Options) -> None:
        self.holds = Holds(options)
        self._released = News()

    def ask(self, name: str, sharer: object) -> bool:
        """Begin or join a hold; see `Holds.ask`."""
        return self.holds.ask(name, sharer, trio.current_time())

    def release(self, name: str, sharer: object) -> None:
        """End a sharer's part in a hold."""
        if self.holds.release(name, sharer, trio.current_time()):
            self._released.notify()

    def release_all(self, sharer: object) -> None:
        """End all parts of a link that is gone."""
        if self.holds.release_all(sharer, trio.current_time()):
            self._released.notify()

    async def wait_unheld(self, names: Iterable[str]) -> None:
        """Return when the holds of these counters that are in force now are over. There may be no trio checkpoint.

        This does not wait for holds that begin meanwhile. Otherwise a request with many counters would wait for one
        hold after the other.
        """
        for hold in self.holds.in_force(names, trio.current_time()):
            while not hold.over(trio.current_time()):
                with trio.move_on_at(hold.until()):
                    await self._released.wait()
