"""The port to the network: how other nodes are reached, and what carries the messages between two of them."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

CONNECT_TIMEOUT = 0.7  # seconds
LINK_PATH = "/link"


class Link(ABC):
    """A connection that carries whole messages, in order, until it is closed."""

    @property
    @abstractmethod
    def remote(self) -> str:
        """The place that it leads to, as `Transport.stands_for` spells it."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """How many bytes of what was posted still wait here."""

    @abstractmethod
    def post(self, data: bytes) -> None:
        """Send one message, without waiting: what the network does not take at once waits here for `flush`.

        Nothing happens when the connection is over: whoever receives learns of it.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Return when the network has taken what waits here now. Only one task may call this.

        Raises:
            LinkClosed: the connection is over.
        """

    @abstractmethod
    async def receive(self) -> bytes | str | None:
        """The next message: bytes as the protocol wants it, else what `wire.decode` refuses.

        Raises:
            LinkError: the connection is over, or something came that is no message.
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
    async def is_self(self, address: str) -> bool | None:
        """Whether a dial of that address would certainly reach this very node now; None when that can't be told."""

    @abstractmethod
    async def stands_for(self, address: str) -> frozenset[str] | None:
        """The places that a name leads to now; None for an address, and where that can't be found out."""
