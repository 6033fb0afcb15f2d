"""The hellos of a link: what this node says of itself, and whether what answers is another node."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from gcount.cluster.context import Context
from gcount.cluster.heard_versions import HeardVersions
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.links.channel import SILENCE, Channel
from gcount.cluster.links.peer import Peer
from gcount.cluster.members import Members
from gcount.cluster.membership_updates import MembershipUpdates
from gcount.cluster.minting import Minting
from gcount.core.limits import ID_BYTES
from gcount.core.protocol import messages
from gcount.core.state.counters import Digest
from gcount.errors import LinkClosed, LinkRefused, ProtocolError

BEAT_EVERY = 0.25  # seconds
HELLO_TIMEOUT = 2.0  # seconds
WAIT_TOLD_EVERY = 0.5  # seconds
# The peer may first have to finish what a former life of this node had staged there. For so many seconds it may go on
# with that, if it says each moment that it does.
SETTLE_TIMEOUT = 60.0
assert WAIT_TOLD_EVERY < HELLO_TIMEOUT < SETTLE_TIMEOUT, "a caller that has to wait is told so in time"
assert 2 * BEAT_EVERY < SILENCE, "a link does not die between two heartbeats"


@dataclass(frozen=True)
class Knowledge:
    """What this node knows of itself and of others; what is said on links changes it.

    Args:
        members: who belongs to the cluster.
        updates: takes in memberships.
        heard: versions that members were heard to have.
        guard: the right to this node's incarnation.
        minting: begins a new one.
    """

    members: Members
    updates: MembershipUpdates
    heard: HeardVersions
    guard: IdentityGuard
    minting: Minting


class Handshake:
    """Says hello, and knows this node's own hello when it comes in at its own door.

    Args:
        context: what is shared.
        members: who belongs to the cluster.
    """

    def __init__(self, context: Context, members: Members) -> None:
        self._context = context
        self._replica = context.replica
        self._members = members
        self._challenges: dict[bytes, bool] = {}  # of hellos under way, and whether they came in here

    def hello(
        self,
        *,
        duplicate: bool = False,
        challenge: bytes = b"",
        seen: Digest | None = None,
        resumes: int = 0,
        kept: int = 0,
    ) -> messages.Hello:
        """What this node says first on a link; see `messages.Hello`."""
        replica = self._replica
        identity = replica.identity
        return messages.Hello(
            messages.PROTOCOL,
            self._context.cluster,
            identity.node,
            self._context.boot,
            identity.incarnation,
            list(identity.retired),
            replica.membership,
            replica.counters.digest(),
            duplicate,
            challenge,
            self._members.self_address or "",
            seen or {},
            resumes,
            kept,
        )

    async def say(self, channel: Channel, resumes: int = 0) -> tuple[messages.Hello, messages.Hello | None]:
        """Say hello and wait for the answer.

        Args:
            channel: a link that was just dialled.
            resumes: the transfer that it would go on with; 0 when there is none.

        Returns:
            What was said; and the answer, None when the other end is this node itself. An echo is not: the hello has to
            have come in at this node's own door.

        Raises:
            LinkError: there is no such answer.
        """
        challenge = self._context.random.randbytes(ID_BYTES)
        said = self.hello(challenge=challenge, resumes=resumes)
        self._challenges[challenge] = False
        try:
            await channel.send(said)
            answer = await _receive_answer(channel)
        finally:
            came_in = self._challenges.pop(challenge)
        if isinstance(answer, messages.Refused):
            raise LinkRefused(f"refused by the peer: {answer.reason}", answer.config)
        if not isinstance(answer, messages.Hello):
            raise ProtocolError(f"expected a Hello, got a {type(answer).__name__}")
        if answer.boot != self._context.boot:
            return said, answer
        if not came_in:
            raise LinkRefused("the other end repeats this node's own hello")
        return said, None

    def came_in(self, challenge: bytes) -> bool:
        """A hello of this process came in at its own door; False when it is not one that is under way."""
        if challenge not in self._challenges:
            return False
        self._challenges[challenge] = True
        return True


async def _receive_answer(channel: Channel) -> messages.Message:
    with trio.move_on_after(SETTLE_TIMEOUT):
        while True:
            message = await channel.receive_first(HELLO_TIMEOUT)
            if not isinstance(message, messages.HeartbeatAck):
                return message
    raise LinkClosed(f"no hello for {SETTLE_TIMEOUT:g} s")


@asynccontextmanager
async def beating(peer: Peer, channel: Channel) -> AsyncIterator[None]:
    """Send heartbeats while this node's own disk is waited for."""

    async def beat() -> None:
        while True:
            await trio.sleep(BEAT_EVERY)
            peer.beats += 1
            channel.post(messages.Heartbeat())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def telling_to_wait(channel: Channel, hello: messages.Hello) -> AsyncIterator[None]:
    """Let a caller whose hello waits for this node's disk know that it does."""

    async def tell() -> None:
        while hello.challenge:  # a node of before challenges takes nothing but a hello for an answer
            await trio.sleep(WAIT_TOLD_EVERY)
            channel.post(messages.HeartbeatAck({}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        yield
        nursery.cancel_scope.cancel()
