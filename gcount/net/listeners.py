"""The listening sockets of a node: one port, at every address that the host of `--listen` means."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from gcount.errors import AddressTaken
from gcount.settings import Settings

BACKLOG: Final = 1024  # connections that wait to be accepted


async def open_listeners(settings: Settings) -> Sequence[trio.SocketListener]:
    """Listen on the address of the settings; [::] means all addresses, those of IPv4 too if the system has IPv4.

    Args:
        settings: with port 0, the system chooses a port that is free at all the addresses.

    Returns:
        One listener for each address, all with the same port.

    Raises:
        AddressTaken: the address cannot be had.
    """
    # trio takes "::", in any spelling, for all IPv6 addresses only, and None for those of IPv4 as well.
    host = settings.host if settings.host.strip(":0") else None
    try:
        while True:
            listeners = await trio.open_tcp_listeners(settings.port, host=host, backlog=BACKLOG)
            ports = [int(listener.socket.getsockname()[1]) for listener in listeners]
            if len(set(ports)) == 1:
                return listeners
            # With port 0, each address has got a port of its own. Take the first one's for all. If another program has
            # taken that port at one of the other addresses, begin again.
            for listener in listeners:
                listener.socket.close()
            with suppress(OSError):
                return await trio.open_tcp_listeners(ports[0], host=host, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AddressTaken(
            f"can't listen on {settings.listen}: {reason}. "
            "Choose another --listen address, or stop the process that uses this one"
        ) from error
