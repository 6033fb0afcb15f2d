"""What many tasks wait for: news, again and again, and once the end of the process."""

from math import inf
from types import TracebackType

import trio


class News:
    """Wakes all that wait for it, each time it is told. What has changed each of them finds out by itself.

    Nothing is kept: a task that looks and then waits, with no await in between, misses nothing.
    """

    def __init__(self) -> None:
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return when it is told the next time."""
        await self._event.wait()

    def tell(self) -> None:
        """Wake all that wait now."""
        told, self._event = self._event, trio.Event()
        told.set()


class Stopping:
    """Set once, when the process is told to stop: from then on nothing waits for other nodes any more.

    There is one of them in a process. It is handed down to all that wait.

    Attributes:
        event: the same, for code that only knows events.
    """

    def __init__(self) -> None:
        self.event = trio.Event()
        self._waits: dict[trio.CancelScope, None] = {}  # in the order in which they began

    @property
    def is_set(self) -> bool:
        """Whether the process is about to end."""
        return self.event.is_set()

    def set(self) -> None:
        """The process is about to end: end all waits."""
        assert not self.is_set, "a process is told to stop once"
        self.event.set()
        for scope in self._waits:
            scope.cancel()

    def ends(self, deadline: float = inf) -> "Wait":
        """A context that is left at a deadline, or as soon as this is set.

        Args:
            deadline: in seconds, as trio's clock counts them.
        """
        scope = trio.CancelScope(deadline=deadline)
        if self.event.is_set():
            scope.cancel()
        return Wait(scope, self._waits)


class Wait:
    """The context of one wait; a class, as each message of a consistent read is waited for in one.

    Args:
        scope: of the wait.
        waits: all that are under way.
    """

    __slots__ = ("_scope", "_waits")

    def __init__(self, scope: trio.CancelScope, waits: dict[trio.CancelScope, None]) -> None:
        self._scope = scope
        self._waits = waits

    def __enter__(self) -> None:
        self._waits[self._scope] = None
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        del self._waits[self._scope]
        return self._scope.__exit__(kind, error, trace)
