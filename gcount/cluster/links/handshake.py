"""The hellos of a dialled link: which node answers there, and what follows from what it says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

from gcount.cluster.links.channel import Channel
from gcount.cluster.links.peer import Peer
from gcount.cluster.local import Local
from gcount.core.limits import ID_BYTES
from gcount.core.protocol import messages
from gcount.errors import DiskFull, IncarnationLimitReached, LinkClosed, LinkRefused, ProtocolError

BEAT_EVERY = 0.25  # seconds
HELLO_TIMEOUT = 2.0  # seconds
WAIT_TOLD_EVERY = 0.5  # seconds
# The peer may first have to finish what a former life of this node had staged there. For so many seconds it may go on
# with that, if it says each moment that it does.
SETTLE_TIMEOUT = 60.0

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


async def say_hello(local: Local, talk: Channel, resumes: int = 0) -> tuple[messages.Hello, messages.Hello | None]:
    """Say hello and wait for the answer.

    Args:
        local: this node.
        talk: a link that was just dialled.
        resumes: the transfer that it would go on with; 0 when there is none.

    Returns:
        What was said; and the answer, None when the other end is this node itself. An echo is not: the hello has to
        have come in at this node's own door.

    Raises:
        LinkError: there is no such answer.
    """
    challenge = local.random.randbytes(ID_BYTES)
    said = local.hello(challenge=challenge, resumes=resumes)
    local.members.ask(challenge)
    try:
        await talk.send(said)
        answer = await _receive_answer(talk)
    finally:
        came_in = local.members.answered(challenge)
    if isinstance(answer, messages.Refused):
        raise LinkRefused(f"refused by the peer: {answer.reason}", answer.config)
    if not isinstance(answer, messages.Hello):
        raise ProtocolError(f"a {type(answer).__name__} came where a Hello should")
    if answer.boot != local.boot:
        return said, answer
    if not came_in:
        raise LinkRefused("what answers there repeats what this node says of itself")
    return said, None


async def _receive_answer(talk: Channel) -> messages.Message:
    with trio.move_on_after(SETTLE_TIMEOUT):
        while True:
            message = await talk.receive_first(HELLO_TIMEOUT)
            if not isinstance(message, messages.HeartbeatAck):
                return message
    raise LinkClosed(f"no hello for {SETTLE_TIMEOUT:g} s")


async def heed(local: Local, peer: Peer, talk: Channel, said: messages.Hello, answer: messages.Hello) -> None:
    """Take what a member's hello says of it, of the membership and of this node's own incarnation.

    Args:
        local: this node.
        peer: the member.
        talk: the link.
        said: what it was told.
        answer: what it answered.
    """
    members, guard = local.members, local.guard
    for entry in members.entries_of(answer):  # what it confirmed under the old id it must not confirm as another node
        guard.standing.forget(entry)
    members.met[peer.address] = answer
    members.hear_of(answer.digest)
    guard.met(answer, peer.address, member=True)
    async with beating(peer, talk):
        memberships_exchanged = await local.adopt(answer.membership)
        if guard.is_twin(answer):
            guard.met_twin(answer, peer.address)
            try_to_mint(local)
            peer.beats += 1
            talk.post(messages.Heartbeat())  # this is no leftover of a former life: the other one mints, too
        elif answer.twin and said.node == local.replica.identity.node:
            guard.told_of_twin(f"another process with a copy of this node's data directory calls {peer.address}")
        elif memberships_exchanged:
            own = local.replica.identity.incarnation
            guard.heard(peer.address, answer.node, max(answer.digest.get(own, 0), answer.seen.get(own, 0)))
        else:  # the newest one, which decides who has to confirm, is not in force
            guard.unheard = True
        await mint_if_due(local)


@asynccontextmanager
async def beating(peer: Peer, talk: Channel) -> AsyncIterator[None]:
    """Send heartbeats while this node's own disk is waited for."""

    async def beat() -> None:
        while True:
            await trio.sleep(BEAT_EVERY)
            peer.beats += 1
            talk.post(messages.Heartbeat())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def telling_to_wait(talk: Channel, hello: messages.Hello) -> AsyncIterator[None]:
    """Let a caller whose hello waits for this node's disk know that it does."""

    async def tell() -> None:
        while hello.challenge:  # a node of before challenges takes nothing but a hello for an answer
            await trio.sleep(WAIT_TOLD_EVERY)
            talk.post(messages.HeartbeatAck({}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        yield
        nursery.cancel_scope.cancel()


def try_to_mint(local: Local) -> None:
    """Stage a new incarnation if one is due and can be."""
    try:
        local.guard.begin_mint()
    except IncarnationLimitReached as error:
        local.guard.no_room.warn(reason=str(error))


async def mint_if_due(local: Local) -> None:
    """Make a new incarnation durable if one is due and can be; if not, increments are refused until it is."""
    try:
        await local.guard.mint_if_due()
    except DiskFull as error:
        logger.warning("new incarnation delayed", reason=str(error))
    except IncarnationLimitReached as error:
        local.guard.no_room.warn(reason=str(error))
