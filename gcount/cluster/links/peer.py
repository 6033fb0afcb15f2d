"""One member, as this node sees it: the link to it that this node dialled, and when to dial it again."""

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
# Seconds. With the time of the dial itself, this is less than a node with an empty directory waits for its members.
BACKOFF_MOST = 0.5


class Redial:
    """When a member is dialled again: after a pause that grows with each failed dial, or at once for a reason.

    Attributes:
        failures: the number of failed dials in a row.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._due = trio.Event()

    def now(self) -> None:
        """End the pause, as there is a reason to dial at once."""
        self._due.set()

    async def wait(self, seconds: float) -> None:
        """Return after a pause in seconds, or when `now` is called."""
        with trio.move_on_after(seconds):
            await self._due.wait()
        self._due = trio.Event()

    def pause(self, jitter: float) -> float:
        """How long to wait before the next dial, in seconds, as one more dial has failed.

        Args:
            jitter: a random number from 0 to 1.
        """
        pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        return pause * (0.5 + jitter / 2)


class Peer:
    """One member, and the link that this node dialled to it.

    Args:
        address: its entry in the membership.
        options: how much is sent to it.

    Attributes:
        state: "linked", "connecting" or "self".
        reason: why there is no link; empty before the first dial has failed.
        last_contact: when a message came from it last, in seconds of trio's clock.
        sender: decides what is pushed on the present link; None when there is no link.
        process: the node id and start id at the other end of the present link, or else of the last one.
        scope: cancelling it ends the link.
        serving: cancelling it ends the loop that dials the member.
        redial: when it is dialled again.
        reached_self: whether the last dial reached this node itself.
        heartbeats_sent: how many heartbeats were sent on this link.
        heartbeats_answered: how many of them were answered. All that the answers said is taken already.
        owes: whether the last answer said that the member has something to give back.
    """

    def __init__(self, address: str, options: Options) -> None:
        self.address = address
        self._options = options
        self._max_unsent = options.max_unsent_pushes
        self.state = "connecting"
        self.reason = ""
        self.last_contact: float | None = None
        self.sender: DeltaSender | None = None
        self._last_sender: DeltaSender | None = None  # of this link or the one before
        self.process: tuple[bytes, bytes] | None = None
        self._suspended: Transfer | None = None  # the unfinished transfer of the link before
        self._suspended_until = 0.0
        self.scope = trio.CancelScope()
        self.serving = trio.CancelScope()
        self.redial = Redial()
        self.reached_self = False
        self.heartbeats_sent = 0
        self.heartbeats_answered = 0
        self.owes = False
        self._channel: Channel | None = None
        self._wake = trio.Event()
        self._awaited = False  # whether a task waits for `_spoken`
        self._spoken = trio.Event()

    def post(self, message: wire.Message) -> None:
        """Send a message. It is dropped when there is no link, or when too many bytes wait to be sent already."""
        if self._channel is not None and self._channel.unsent < self._max_unsent:
            self._channel.post(message)
            if self._channel.unsent:
                self.wake()

    def wake(self) -> None:
        """Let the writer of the link check whether there is anything to send."""
        self._wake.set()

    def heard(self, now: float) -> None:
        """Note that a message came on its link."""
        self.last_contact, self.redial.failures = now, 0
        if self._awaited:
            self._awaited = False
            self._spoken.set()

    async def wait_spoken(self) -> None:
        """Return when the next message comes on its link, the present one or a later one."""
        if not self._awaited:
            self._awaited, self._spoken = True, trio.Event()
        await self._spoken.wait()

    def hasten(self, now: float) -> None:
        """Push without delay, as a client waits until this member has all that this node has."""
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
        """The id of the transfer that the next link may continue; 0 when there is none."""
        return self._suspended.id if self._suspended is not None else 0

    def linked(
        self, channel: Channel, hello: wire.Hello, now: float, draw: Callable[[], int], detached: Iterable[Delta]
    ) -> None:
        """Note that a link is up, as the peer said hello.

        Args:
            channel: carries the messages of the link.
            hello: the peer's hello.
            now: the current time, in seconds.
            draw: returns an id for a transfer.
            detached: detached deltas of the peer's former incarnations, which are given back.
        """
        assert self.sender is None, "a member has one link, with one sender"
        transfer, process = self._suspended, (hello.node, hello.start_id)
        if transfer is not None and (process != self.process or not transfer.goes_on(hello.digest, hello.kept)):
            transfer = None
        self._suspended, self.process = None, process
        self.sender = self._last_sender = DeltaSender(hello.digest, now, draw, transfer, detached, self._options)
        self._channel, self.state, self.reason, self.last_contact = channel, "linked", "", now

    def lag(self, counters: Counters) -> int | None:
        """How many versions the member has not acknowledged, as far as is known; None when it was never reached."""
        return self._last_sender.lag(counters) if self._last_sender else None

    def has(self, versions: Digest) -> bool:
        """Whether the member has said, on the present link or the last one, that it has all these versions on disk."""
        if self._last_sender is None:
            return False
        known = self._last_sender.peer
        return all(known.get(incarnation, 0) >= version for incarnation, version in versions.items())

    def unlinked(self, reason: str, now: float) -> None:
        """Note that the link is over, or that a dial failed. An unfinished transfer is kept for a while.

        Args:
            reason: why there is no link.
            now: the current time, in seconds.
        """
        if self.sender is not None:
            self._suspended, self._suspended_until = self.sender.interrupted(), now + KEEP
        if now >= self._suspended_until or self.scope.cancel_called:
            self._suspended = None
        self._channel, self.sender, self.state, self.reason = None, None, "connecting", reason

    def here(self) -> None:
        """Note that the address is this node's own. What another node has said there does not count any more."""
        self._channel, self.sender, self.state, self.reason = None, None, "self", ""
        self._last_sender = self.process = self._suspended = None
        self.redial.failures = 0

    def hang_up(self) -> None:
        """End the link, so that hellos are exchanged anew. The next link continues no transfer."""
        self._suspended = None
        self.scope.cancel()
