"""One member as this node sees it: the link that it dialled, what waits to be sent on it, when to dial again."""

import trio

from gcount.cluster.conversation import Conversation
from gcount.core import wire
from gcount.core.counters import Counters, Digest
from gcount.core.link import Pusher

BACKOFF_FIRST = 0.05  # seconds
BACKOFF_MOST = 0.5  # with the dial itself, less than what a node with an empty directory waits for its members
MAX_UNSENT = 4 * 1024 * 1024  # bytes of messages that wait to be sent on one link


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
        self.came_home = False  # the last dial reached this node itself
        self.failures = 0
        self.beats = 0  # sent on this link
        self.beaten = 0  # of them answered, and what the answer told is known here
        self._talk: Conversation | None = None
        self._wake = trio.Event()

    def post(self, message: wire.Message) -> None:
        """Send a message; it is dropped when there is no link, or when too much waits there already."""
        if self._talk is not None and self._talk.unsent < MAX_UNSENT:
            self._talk.post(message)
            if self._talk.unsent:
                self.wake()

    def wake(self) -> None:
        """Let the writer of the link look for what is to be sent."""
        self._wake.set()

    def hasten(self, now: float) -> None:
        """Somebody waits for this member to have all that this node has."""
        if self.pusher is not None:
            self.pusher.hasten(now)
            self.wake()

    async def wait_awake(self, deadline: float) -> None:
        """Return when there may be something to send, or at the deadline."""
        with trio.move_on_at(deadline):
            await self._wake.wait()
        self._wake = trio.Event()

    def linked(self, talk: Conversation, pusher: Pusher, now: float) -> None:
        """The peer said hello."""
        self._talk, self.pusher, self.state, self.reason, self.last_contact = talk, pusher, "linked", "", now
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
        self._talk, self.pusher, self.state, self.reason = None, None, "connecting", reason

    def here(self) -> None:
        """It was proven that the address is this node's own."""
        self._talk, self.pusher, self.state, self.reason, self.failures = None, None, "self", "", 0

    async def wait_redial(self, seconds: float) -> None:
        """Return when it is time to dial again, or somebody has a reason to."""
        with trio.move_on_after(seconds):
            await self.redial.wait()
        self.redial = trio.Event()

    def pause(self, jitter: float) -> float:
        """How long to wait before the next dial, in seconds.

        Args:
            jitter: 0 to 1, at random.
        """
        pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        return pause * (0.5 + jitter / 2)
