"""The port to the network, and the websockets behind it.

Bulk data flows from the dialling side (trio-websocket) to the accepting side (the HTTP server) only.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio
import trio_websocket

from gcount.core.limits import MAX_MESSAGE_BYTES
from gcount.core.membership import split_address
from gcount.errors import LinkClosed, LinkRefused

CONNECT_TIMEOUT = 0.7  # seconds
CLOSE_TIMEOUT = 0.3  # seconds
LINK_PATH = "/link"


class Link(ABC):
    """A connection that carries whole messages, in order, until it is closed."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send one message.

        Raises:
            LinkClosed: the connection is over. A send that is cancelled may leave half a message: close the link then.
        """

    @abstractmethod
    async def receive(self) -> bytes | str | None:
        """The next message: bytes as the protocol wants it, else what `wire.decode` refuses.

        Raises:
            LinkClosed: the connection is over.
        """


class Transport(ABC):
    """How this node reaches others."""

    @abstractmethod
    def connect(self, address: str) -> AbstractAsyncContextManager[Link]:
        """Dial a normalised address; the link is closed when the context ends.

        Raises:
            LinkClosed: it could not be reached in time.
        """

    @abstractmethod
    async def is_self(self, address: str) -> bool:
        """Whether that address is certainly this node's own."""


class WebsocketTransport(Transport):
    """Websockets over TCP.

    Args:
        listen_host: the host that this node listens on, maybe a wildcard.
        listen_port: the port that it really has.
    """

    def __init__(self, listen_host: str, listen_port: int) -> None:
        self._listen_host = listen_host
        self._listen_port = listen_port

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Link]:
        """Dial a normalised address; see `Transport.connect`."""
        host, port = split_address(address)
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT_TIMEOUT):
                    connection = await trio_websocket.connect_websocket(
                        nursery, host, port, LINK_PATH, use_ssl=False, max_message_size=MAX_MESSAGE_BYTES
                    )
            except trio.TooSlowError:
                raise LinkClosed("no connection in time") from None
            except trio_websocket.ConnectionRejected as error:
                raise LinkRefused(f"it answered the dial with HTTP status {error.status_code}") from None
            except (OSError, trio_websocket.HandshakeError, trio_websocket.ConnectionClosed) as error:
                raise LinkClosed(f"no connection: {_reason(error)}") from None
            try:
                yield WebsocketLink(connection)
            finally:
                with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                    await connection.aclose()
                nursery.cancel_scope.cancel()

    async def is_self(self, address: str) -> bool:
        """Whether it is an address of this machine on which this node listens."""
        host, port = split_address(address)
        if port != self._listen_port:
            return False
        try:
            listens_on = await trio.socket.getaddrinfo(self._listen_host, 0, type=trio.socket.SOCK_DGRAM)
            resolved = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_DGRAM)
        except OSError:
            return False
        own = {entry[4][0] for entry in listens_on}
        for family, _, _, _, sockaddr in resolved:
            ip = sockaddr[0]
            if ip in own or (own & {"0.0.0.0", "::"} and await _is_local(family, sockaddr)):
                return True
        return False


async def _is_local(family: int, sockaddr: tuple[Any, ...]) -> bool:
    """Ask the kernel's routes, by connecting a datagram socket: only a local address is reached from itself.

    Nothing is sent, so it also answers in a network namespace whose loopback device is down, where a node can't dial
    itself.
    """
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as probe:
        try:
            await probe.connect(sockaddr)
        except OSError:
            return False
        return bool(probe.getsockname()[0] == sockaddr[0])


class WebsocketLink(Link):
    """A websocket that this node dialled."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        try:
            await self._connection.send_message(data)
        except trio_websocket.ConnectionClosed as error:
            raise LinkClosed(_reason(error)) from None

    async def receive(self) -> bytes | str | None:
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise LinkClosed(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, trio_websocket.ConnectionClosed):
        return f"the connection was closed ({error.reason.name})" if error.reason else "the connection was lost"
    return str(error) or type(error).__name__
