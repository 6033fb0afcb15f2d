"""Sends and receives messages over a link, with deadlines, and counts their bytes."""

import trio
from prometheus_client import Counter

from gcount.cluster.links.transport import Link
from gcount.core.protocol import messages
from gcount.errors import LinkClosed

SILENCE = 1.0  # seconds without a message after which a link is dead
# A silence counts after so many checks. When this process itself was blocked, it reads what came meanwhile between two
# of them, so that it does not end a link that is alive.
LOOKS = 4
SEND_TIMEOUT = 1.0  # seconds; a cancelled send may leave a part of a message, so that the link is over


class Channel:
    """Sends and receives messages over a link.

    Args:
        link: the connection.
        link_bytes: the metric that counts bytes, with labels for peer and direction.
        peer: the label of the other end in that metric.
    """

    def __init__(self, link: Link, link_bytes: Counter, peer: str) -> None:
        self._link = link
        self._sent = link_bytes.labels(peer, "out")
        self._received = link_bytes.labels(peer, "in")
        self._listening = False
        self._heard = False  # whether a message came since the last check

    @property
    def unsent(self) -> int:
        """How many bytes of posted messages wait for `flush`."""
        return self._link.unsent

    def post(self, message: messages.Message) -> None:
        """Send one message without waiting. If `unsent` is not 0 afterwards, call `flush` soon."""
        data = messages.encode(message)
        self._link.post(data)
        self._sent.inc(len(data))

    async def flush(self) -> None:
        """Return when the network has taken all that waits to be sent. Only one task may call this at a time.

        Raises:
            LinkClosed: the link is over, or the other end did not read for a second.
        """
        with trio.move_on_after(SEND_TIMEOUT) as scope:
            await self._link.flush()
        if scope.cancelled_caught:
            raise LinkClosed("the other end stopped reading")

    async def send(self, message: messages.Message) -> None:
        """Post one message and flush. Raises as `flush` does."""
        self.post(message)
        await self.flush()

    async def receive(self) -> messages.Message:
        """The next message. `watch` has to run meanwhile, as it notices a silent link.

        Raises:
            LinkClosed: the link is over.
            ProtocolError: what came is no valid message.
        """
        self._listening = True  # silence counts only while this waits: otherwise this node is the slow one
        data = await self._link.receive()
        self._listening, self._heard = False, True
        message = messages.decode(data)
        self._received.inc(len(data or b""))
        return message

    async def receive_first(self, timeout: float) -> messages.Message:
        """The first message.

        Args:
            timeout: how long to wait for it, in seconds.

        Raises:
            LinkClosed: the link is over, or the message did not come in time.
            ProtocolError: what came is no valid message.
        """
        for _ in range(LOOKS):
            with trio.move_on_after(timeout / LOOKS):
                return await self.receive()
        raise LinkClosed(f"silent for {timeout:g} s")

    async def watch(self) -> None:
        """Watch for silence, for ever. A deadline for each message would cost as much time as the message itself.

        Raises:
            LinkClosed: `receive` has waited for a second, and no message came.
        """
        silent = 0
        while silent < LOOKS:
            await trio.sleep(SILENCE / LOOKS)
            silent = 0 if self._heard or not self._listening else silent + 1
            self._heard = False
        raise LinkClosed(f"silent for {SILENCE:g} s")
