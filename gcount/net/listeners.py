"""Where the node listens: one port, at every address that its host stands for."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from gcount.errors import AddressTaken
from gcount.settings import Settings

BACKLOG: Final = 1024  # connections that wait to be accepted


async def open_listeners(settings: Settings) -> Sequence[trio.SocketListener]:
    """Listen where the operator said; [::] stands for all addresses, those of IPv4 too where the system has it.

    Args:
        settings: with port 0, the system chooses one that is free at all the addresses.

    Returns:
        One listener for each address, all with the same port.

    Raises:
        AddressTaken: the address cannot be had.
    """
    # For trio "::", in any spelling, stands for all IPv6 addresses only, and None for those of IPv4 as well.
    host = settings.host if settings.host.strip(":0") else None
    try:
        while True:
            listeners = await trio.open_tcp_listeners(settings.port, host=host, backlog=BACKLOG)
            ports = [int(listener.socket.getsockname()[1]) for listener in listeners]
            if len(set(ports)) == 1:
                return listeners
            # Port 0, and each address got one of its own: all take the first one's, unless it is taken at another.
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
