"""The limits of connections, handed to those who keep them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConnectionOptions:
    """What a connection may take.

    Attributes:
        send_timeout: seconds that a client may take to read what is sent to it.
        link_send_timeout: the same for a link.
        keep_alive: seconds that a client may be without a request, also one that sends its headers byte by byte.
        linger_seconds: for how long input is thrown away after the last answer of a connection.
        linger_bytes: how much of it.
    """

    send_timeout: float = 10.0
    link_send_timeout: float = 1.0
    keep_alive: float = 75.0
    linger_seconds: float = 1.0
    linger_bytes: int = 1024 * 1024
