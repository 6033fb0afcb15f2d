"""The limits of one connection."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConnectionOptions:
    """How much time and input a connection may take.

    Attributes:
        send_timeout: seconds that a client may take to read what is sent to it.
        link_send_timeout: the same for a link.
        keep_alive: seconds that a client may be without a whole request; bytes of an unfinished one do not count.
        linger_seconds: seconds for which input is thrown away after the last answer of a connection.
        linger_bytes: the most bytes of input that are thrown away then.
    """

    send_timeout: float = 10.0
    link_send_timeout: float = 1.0
    keep_alive: float = 75.0
    linger_seconds: float = 1.0
    linger_bytes: int = 1024 * 1024
