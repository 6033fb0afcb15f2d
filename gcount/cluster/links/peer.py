"""One member as this node sees it: the link that it dialled, what waits to be sent on it, when to dial again."""

from collections.abc import Callable, Iterable

import trio

from gcount.cluster.links.channel import Channel
from gcount.core.options import Options
from gcount.core.protocol import messages as wire
from gcount.core.protocol.replication import DeltaSender
from gcount.core.protocol.suspended_transfers import KEEP
from gcount.core.protocol.transfer import Transfer
from gcount.core.state.counters import Counters, Delta, Digest

BACKOFF_FIRST = 0.05  # seconds
BACKOFF_MOST = 0.5  # with the dial itself, less than what a node with an empty directory waits for its members


class Peer:
    """One member, and the link that this node dialled to it.

    Args:
        address: its entry in the membership.
        options: how much is sent to it.
    """

    def __init__(self, address: str, options: Options) -> None:
        self.address = address
        self._options = options
        self._max_unsent = options.max_unsent_pushes
        self.state = "connecting"
        self.reason = ""  # why there is no link
        self.last_contact: float | None = None
        self.sender: DeltaSender | None = None
        self._last_sender: DeltaSender | None = None  # of this link or the one before
        self.life: tuple[bytes, bytes] | None = None  # node and boot at the other end of that link
        self._left: Transfer | None = None  # what the link before left unfinished
        self._left_until = 0.0
        self.scope = trio.CancelScope()
        self.serving = trio.CancelScope()  # all of its loop
        self.redial = trio.Event()
        self.came_home = False  # the last dial reached this node itself
        self.failures = 0
        self.beats = 0  # sent on this link
        self.beaten = 0  # of them answered, and what the answer told is known here
        self.owes = False  # it said in the last answer that it has something to give back
        self._channel: Channel | None = None
        self._wake = trio.Event()
        self._awaited = False  # somebody waits for it to say something
        self._spoken = trio.Event()

    def post(self, message: wire.Message) -> None:
        """Send a message; it is dropped when there is no link, or when too much waits there already."""
        if self._channel is not None and self._channel.unsent < self._max_unsent:
            self._channel.post(message)
            if self._channel.unsent:
                self.wake()

    def wake(self) -> None:
        """Let the writer of the link look for what is to be sent."""
        self._wake.set()

    def heard(self, now: float) -> None:
        """Something came on its link."""
        self.last_contact, self.failures = now, 0
        if self._awaited:
            self._awaited = False
            self._spoken.set()

    async def wait_spoken(self) -> None:
        """Return when something comes on its link, this one or another."""
        if not self._awaited:
            self._awaited, self._spoken = True, trio.Event()
        await self._spoken.wait()

    def hasten(self, now: float) -> None:
        """Somebody waits for this member to have all that this node has."""
        if self.sender is not None:
            self.sender.hasten(now)
            self.wake()

    async def wait_awake(self, deadline: float) -> None:
        """Return when there may be something to send, or at the deadline."""
        with trio.move_on_at(deadline):
            await self._wake.wait()
        self._wake = trio.Event()

    @property
    def resumes(self) -> int:
        """The transfer that the next link may go on with; 0 when there is none."""
        return self._left.id if self._left is not None else 0

    def linked(
        self, channel: Channel, hello: wire.Hello, now: float, draw: Callable[[], int], detached: Iterable[Delta]
    ) -> None:
        """The peer said hello.

        Args:
            channel: carries the messages of the link.
            hello: what it said.
            now: the current time, in seconds.
            draw: gives ids to transfers.
            detached: what this node has of the peer's former lives behind gaps, to be given back.
        """
        assert self.sender is None, "a member has one link, and that one sender"
        left, life = self._left, (hello.node, hello.boot)
        if left is not None and (life != self.life or not left.goes_on(hello.digest, hello.kept)):
            left = None
        self._left, self.life = None, life
        self.sender = self._last_sender = DeltaSender(hello.digest, now, draw, left, detached, self._options)
        self._channel, self.state, self.reason, self.last_contact = channel, "linked", "", now

    def lag(self, counters: Counters) -> int | None:
        """How many versions it has not acknowledged, as far as is known; None when it was never reached."""
        return self._last_sender.lag(counters) if self._last_sender else None

    def has(self, versions: Digest) -> bool:
        """Whether it has said, on the link that it has or had last, that all of some versions are on its disk."""
        told = self._last_sender.peer if self._last_sender else None
        return told is not None and all(told.get(who, 0) >= version for who, version in versions.items())

    def unlinked(self, reason: str, now: float) -> None:
        """The link is over, or there was none: what it left unfinished waits for the next one, for a while."""
        if self.sender is not None:
            self._left, self._left_until = self.sender.interrupted(), now + KEEP
        if now >= self._left_until or self.scope.cancel_called:
            self._left = None
        self._channel, self.sender, self.state, self.reason = None, None, "connecting", reason

    def here(self) -> None:
        """It was proven that the address is this node's own: what another one said there counts no more."""
        self._channel, self.sender, self.state, self.reason, self.failures = None, None, "self", "", 0
        self._last_sender = self.life = self._left = None

    async def wait_redial(self, seconds: float) -> None:
        """Return when it is time to dial again, or somebody has a reason to."""
        with trio.move_on_after(seconds):
            await self.redial.wait()
        self.redial = trio.Event()

    def hang_up(self) -> None:
        """End the link, so that hello is said anew; the next one begins anew with all that the peer lacks."""
        self._left = None
        self.scope.cancel()

    def pause(self, jitter: float) -> float:
        """How long to wait before the next dial, in seconds.

        Args:
            jitter: 0 to 1, at random.
        """
        pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        return pause * (0.5 + jitter / 2)
