"""One member as this node sees it: the link that it dialled, what waits to be sent on it, when to dial again."""

from collections import deque

import trio

from gcount.core import wire
from gcount.core.counters import Counters, Digest
from gcount.core.link import Pusher

BACKOFF_FIRST = 0.05  # seconds
BACKOFF_MOST = 0.5  # with the dial itself, less than what a node with an empty directory waits for its members
MAX_OUTBOX = 65_536  # questions that wait to be sent on one link


class Peer:
    """One member, and the link that this node dialled to it.

    Args:
        address: its entry in the membership.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.state = "connecting"
        self.reason = ""  # why there is no link
        self.last_contact: float | None = None
        self.pusher: Pusher | None = None
        self._last_pusher: Pusher | None = None  # of this link or the one before
        self.scope = trio.CancelScope()
        self.serving = trio.CancelScope()  # all of its loop
        self.redial = trio.Event()
        self.failures = 0
        self.beats = 0  # sent on this link
        self.beaten = 0  # of them answered, and what the answer told is known here
        self._outbox: deque[wire.Message] = deque()
        self._wake = trio.Event()

    def post(self, message: wire.Message) -> None:
        """Let a message wait for the writer of the link; without a link it is dropped."""
        if self.pusher is not None and len(self._outbox) < MAX_OUTBOX:
            self._outbox.append(message)
            self._wake.set()

    def wake(self) -> None:
        """Let the writer look for news."""
        self._wake.set()

    @property
    def anything_posted(self) -> bool:
        """Whether a message waits for the writer."""
        return bool(self._outbox)

    def next_posted(self) -> wire.Message | None:
        """The oldest message that waits."""
        return self._outbox.popleft() if self._outbox else None

    async def wait_awake(self, deadline: float) -> None:
        """Return when there may be something to send, or at the deadline."""
        with trio.move_on_at(deadline):
            await self._wake.wait()
        self._wake = trio.Event()

    def linked(self, pusher: Pusher, now: float) -> None:
        """The peer said hello."""
        self.pusher, self.state, self.reason, self.last_contact = pusher, "linked", "", now
        self._last_pusher = pusher

    def lag(self, counters: Counters) -> int | None:
        """How many versions it has not acknowledged, as far as is known; None when it was never reached."""
        return self._last_pusher.lag(counters) if self._last_pusher else None

    def has(self, versions: Digest) -> bool:
        """Whether it has said, on the link that it has or had last, that all of some versions are on its disk."""
        told = self._last_pusher.peer if self._last_pusher else None
        return told is not None and all(told.get(who, 0) >= version for who, version in versions.items())

    def unlinked(self, reason: str) -> None:
        """The link is over, or there was none."""
        self.pusher, self.state, self.reason = None, "connecting", reason
        self._outbox.clear()

    def pause(self, jitter: float) -> float:
        """How long to wait before the next dial, in seconds.

        Args:
            jitter: 0 to 1, at random.
        """
        pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        return pause * (0.5 + jitter / 2)
