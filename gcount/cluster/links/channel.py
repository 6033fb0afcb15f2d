"""Messages over a link, each with a deadline and counted."""

import trio
from prometheus_client import Counter

from gcount.cluster.links.transport import Link
from gcount.core.protocol import messages
from gcount.errors import LinkClosed

SILENCE = 1.0  # seconds without a message after which a link is dead
# Looks at a silence before it counts: when this process itself was held up, what came meanwhile is read in between.
LOOKS = 4
SEND_TIMEOUT = 1.0  # seconds; what a cancelled send leaves behind is not a link any more


class Channel:
    """Speaks the wire protocol over a link.

    Args:
        link: the connection.
        link_bytes: the counter of bytes, with labels for peer and direction.
        peer: the other end, for that counter.
    """

    def __init__(self, link: Link, link_bytes: Counter, peer: str) -> None:
        self._link = link
        self._sent = link_bytes.labels(peer, "out")
        self._received = link_bytes.labels(peer, "in")
        self._listening = False
        self._heard = False  # since the last look

    @property
    def unsent(self) -> int:
        """How many bytes of what was posted wait for `flush`."""
        return self._link.unsent

    def post(self, message: messages.Message) -> None:
        """Send one message without waiting; call `flush` soon if `unsent` is not 0 then."""
        data = messages.encode(message)
        self._link.post(data)
        self._sent.inc(len(data))

    async def flush(self) -> None:
        """Return when the network has taken what waits to be sent; for one task at a time.

        Raises:
            LinkClosed: the link is over, or the other end did not read for a second.
        """
        with trio.move_on_after(SEND_TIMEOUT) as scope:
            await self._link.flush()
        if scope.cancelled_caught:
            raise LinkClosed("the other end stopped reading")

    async def send(self, message: messages.Message) -> None:
        """Post one message and flush; raises as `flush` does."""
        self.post(message)
        await self.flush()

    async def receive(self) -> messages.Message:
        """The next message, for as long as `watch` runs.

        Raises:
            LinkClosed: the link is over.
            ProtocolError: what came is not allowed.
        """
        self._listening = True
        data = await self._link.receive()
        self._listening, self._heard = False, True
        message = messages.decode(data)
        self._received.inc(len(data or b""))
        return message

    async def receive_first(self, timeout: float) -> messages.Message:
        """The first message; raises as `receive` does, and LinkClosed when it takes longer than so many seconds."""
        for _ in range(LOOKS):
            with trio.move_on_after(timeout / LOOKS):
                return await self.receive()
        raise LinkClosed(f"silent for {timeout:g} s")

    async def watch(self) -> None:
        """Return never; a deadline for each message would cost as much as the message.

        Raises:
            LinkClosed: somebody has waited for a message for a second, and none came.
        """
        silent = 0
        while silent < LOOKS:
            await trio.sleep(SILENCE / LOOKS)
            silent = 0 if self._heard or not self._listening else silent + 1
            self._heard = False
        raise LinkClosed(f"silent for {SILENCE:g} s")
