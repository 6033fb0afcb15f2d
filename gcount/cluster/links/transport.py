"""The port to the network: connects to other nodes, and carries messages between two nodes."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

CONNECT_TIMEOUT = 0.7  # seconds
LINK_PATH = "/link"


class Link(ABC):
    """A connection that carries whole messages, in order, until it is closed."""

    @property
    @abstractmethod
    def remote(self) -> str:
        """The address of the other end, as `Transport.stands_for` spells it."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """How many bytes of posted messages the network has not taken yet."""

    @abstractmethod
    def post(self, data: bytes) -> None:
        """Send one message without waiting. Bytes that the network does not take at once wait here for `flush`.

        When the connection is over, nothing happens; `receive` raises then.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Return when the network has taken the bytes that wait here now. Only one task may call this.

        Raises:
            LinkClosed: the connection is over.
        """

    @abstractmethod
    async def receive(self) -> bytes | str | None:
        """The payload of the next message. Anything but bytes is refused by `messages.decode`.

        Raises:
            LinkError: the connection is over, or what came is no message.
        """


class Transport(ABC):
    """Connects this node to others."""

    @abstractmethod
    def connect(self, address: str) -> AbstractAsyncContextManager[Link]:
        """Dial a normalised address. The link is closed when the context ends.

        Raises:
            LinkClosed: the address could not be reached in time.
        """

    @abstractmethod
    async def is_self(self, address: str) -> bool | None:
        """Whether dialling an address would certainly reach this very node now; None when that is unknown."""

    @abstractmethod
    async def stands_for(self, address: str) -> frozenset[str] | None:
        """The IP addresses of the host name in an address now; None when the host is no name, or they are unknown."""
