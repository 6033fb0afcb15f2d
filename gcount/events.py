"""Events that many tasks wait for: repeated news, and the one end of the process."""

from math import inf
from types import TracebackType

import trio


class News:
    """Wakes all waiting tasks at each `notify`. Each task finds out by itself what has changed.

    No notification is stored. A task that looks at the state and then waits, with no await in between, misses none.
    """

    def __init__(self) -> None:
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return at the next `notify`."""
        await self._event.wait()

    def notify(self) -> None:
        """Wake all tasks that wait now."""
        current, self._event = self._event, trio.Event()
        current.set()


class Stopping:
    """Set once, when the process is asked to stop. From then on no task waits for other nodes any more.

    A process has one of these; all code that waits for other nodes gets it as an argument.

    Attributes:
        event: the same as a plain event.
    """

    def __init__(self) -> None:
        self.event = trio.Event()
        self._waits: dict[trio.CancelScope, None] = {}  # in the order in which they began

    @property
    def is_set(self) -> bool:
        """Whether the process is about to end."""
        return self.event.is_set()

    def set(self) -> None:
        """End all waits, as the process is about to end."""
        assert not self.is_set, "a process is asked to stop once"
        self.event.set()
        for scope in self._waits:
            scope.cancel()

    def ends(self, deadline: float = inf) -> "Wait":
        """A context that ends at a deadline, or as soon as the process is asked to stop.

        Args:
            deadline: in seconds of trio's clock.
        """
        scope = trio.CancelScope(deadline=deadline)
        if self.event.is_set():
            scope.cancel()
        return Wait(scope, self._waits)


class Wait:
    """The context of one wait.

    It is a class because consistent reads enter one for each message, and a generator-based context is slower.

    Args:
        scope: the cancel scope of this wait.
        waits: the scopes of all waits under way.
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
