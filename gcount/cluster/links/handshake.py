"""The hellos of a link: what this node says of itself, and whether another node answers or this one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from gcount.cluster.context import Context
from gcount.cluster.heard_versions import HeardVersions
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.links.channel import SILENCE, Channel
from gcount.cluster.links.peer import Peer
from gcount.cluster.members import Members, uses_ids
from gcount.cluster.membership_updates import MembershipUpdates
from gcount.cluster.minting import Minting
from gcount.core.limits import ID_BYTES
from gcount.core.protocol import messages
from gcount.core.protocol.floors import floor_to_tell
from gcount.core.state.counters import Digest
from gcount.core.state.replica import Replica
from gcount.errors import LinkClosed, LinkRefused, ProtocolError

HEARTBEAT_INTERVAL = 0.25  # seconds
HELLO_TIMEOUT = 2.0  # seconds
WAIT_NOTICE_INTERVAL = 0.5  # seconds
# Before it answers a hello, the peer may have to write what an earlier process of this node had staged there. It may
# take so many seconds, if it sends wait notices meanwhile.
SETTLE_TIMEOUT = 60.0
TOO_OLD = "increments with ids are in use here, and one end of the link does not understand them: upgrade that node"
assert WAIT_NOTICE_INTERVAL < HELLO_TIMEOUT < SETTLE_TIMEOUT, "a caller that has to wait is told so in time"
assert 2 * HEARTBEAT_INTERVAL < SILENCE, "a link does not die between two heartbeats"


@dataclass(frozen=True)
class Knowledge:
    """What this node knows of itself and of others. Messages on links change it.

    Args:
        members: the members of the cluster.
        updates: takes new memberships.
        heard: the versions that members have reported.
        guard: guards this node's right to its incarnation.
        minting: begins new incarnations.
    """

    members: Members
    updates: MembershipUpdates
    heard: HeardVersions
    guard: IdentityGuard
    minting: Minting


class Handshake:
    """Says hello, and recognizes this node's own hello when it reaches its own listener.

    Args:
        context: what the parts of the node share.
        members: the members of the cluster.
    """

    def __init__(self, context: Context, members: Members) -> None:
        self._context = context
        self._replica = context.replica
        self._members = members
        self._challenges: dict[bytes, bool] = {}  # of hellos under way: whether they reached this node's own listener

    def hello(
        self,
        *,
        duplicate: bool = False,
        challenge: bytes = b"",
        seen: Digest | None = None,
        resumes: int = 0,
        kept: int = 0,
    ) -> messages.Hello:
        """This node's hello at this instant. The arguments are fields of `messages.Hello`."""
        replica = self._replica
        identity = replica.identity
        return messages.Hello(
            messages.PROTOCOL,
            self._context.cluster,
            identity.node,
            self._context.start_id,
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
            floor_to_tell(replica),
            self._context.rules.window,
        )

    async def say(self, channel: Channel, resumes: int = 0) -> tuple[messages.Hello, messages.Hello | None]:
        """Say hello and wait for the answer.

        Args:
            channel: a link that was just dialled.
            resumes: the id of the transfer that this node wants to continue; 0 when there is none.

        Returns:
            The hello that was sent; and the answer, which is None when the other end is this node itself. For that the
            hello must have reached this node's own listener: a peer that only echoes it is refused.

        Raises:
            LinkError: no valid answer came, or the peer refused.
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
        if answer.start_id != self._context.start_id:
            return said, answer
        if not came_in:
            raise LinkRefused("the other end repeats this node's own hello")
        return said, None

    def came_in(self, challenge: bytes) -> bool:
        """Note a challenge that reached this node's own listener; returns whether a hello with it is under way."""
        if challenge not in self._challenges:
            return False
        self._challenges[challenge] = True
        return True


def check_knows_ids(replica: Replica, hello: messages.Hello) -> None:
    """Check that a node at the other end of a link understands increments with ids, once they are in use here.

    Another one would take them for nothing, and say that it has them.

    Raises:
        LinkRefused: it does not understand them.
    """
    if not hello.knows_ids and uses_ids(replica):
        raise LinkRefused(TOO_OLD)


async def _receive_answer(channel: Channel) -> messages.Message:
    with trio.move_on_after(SETTLE_TIMEOUT):
        while True:
            message = await channel.receive_first(HELLO_TIMEOUT)
            if not isinstance(message, messages.HeartbeatAck):
                return message
    raise LinkClosed(f"no hello for {SETTLE_TIMEOUT:g} s")


@asynccontextmanager
async def sending_heartbeats(peer: Peer, channel: Channel) -> AsyncIterator[None]:
    """Send heartbeats while this node waits for its own disk, so that the peer does not end the link."""

    async def send() -> None:
        while True:
            await trio.sleep(HEARTBEAT_INTERVAL)
            peer.heartbeats_sent += 1
            channel.post(messages.Heartbeat())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def sending_wait_notices(channel: Channel, hello: messages.Hello) -> AsyncIterator[None]:
    """Let a caller know that the answer to its hello waits for this node's disk."""

    async def send() -> None:
        while hello.challenge:  # nodes of versions without challenges accept nothing but a hello as the first answer
            await trio.sleep(WAIT_NOTICE_INTERVAL)
            channel.post(messages.HeartbeatAck({}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        yield
        nursery.cancel_scope.cancel()
