"""Messages over a link, each with a deadline and counted."""

import trio
from prometheus_client import Counter

from gcount.cluster.transport import Link
from gcount.core import wire
from gcount.errors import LinkClosed

SILENCE = 1.0  # seconds without a message after which a link is dead
SLICES = (
    4  # of a silence: when this process itself was held up, what came meanwhile is read before it counts as silence
)
SEND_TIMEOUT = 1.0  # seconds; what a cancelled send leaves behind is not a link any more


class Conversation:
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

    @property
    def unsent(self) -> int:
        """How many bytes of what was posted wait for `flush`."""
        return self._link.unsent

    def post(self, message: wire.Message) -> None:
        """Send one message without waiting; call `flush` soon if `unsent` is not 0 then."""
        data = wire.encode(message)
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
            raise LinkClosed("it stopped reading")

    async def send(self, message: wire.Message) -> None:
        """Post one message and flush; raises as `flush` does."""
        self.post(message)
        await self.flush()

    async def receive(self, timeout: float = SILENCE) -> wire.Message:
        """The next message.

        Args:
            timeout: how long to wait for it, in seconds.

        Raises:
            LinkClosed: the link is over, or nothing came in time.
            ProtocolError: what came is not allowed.
        """
        for _ in range(SLICES):
            with trio.move_on_after(timeout / SLICES):
                data = await self._link.receive()
                message = wire.decode(data)
                self._received.inc(len(data or b""))
                return message
        raise LinkClosed(f"silent for {timeout:g} s")
