"""Sockets with one system call where a stream takes several, and as many visits to the scheduler.

A node's requests and messages are so small that this is a third of what they cost. A socket that was closed meanwhile
has no descriptor, and so no other one's either.
"""

import os

import trio


async def receive(socket: trio.socket.SocketType, most: int) -> bytes:
    """Receive some bytes as soon as there are any; none means that the peer has finished sending.

    Args:
        socket: connected.
        most: how many bytes to take at most.

    Raises:
        trio.BrokenResourceError: the connection broke.
        trio.ClosedResourceError: the socket was closed, perhaps while this call waited.
    """
    while (descriptor := socket.fileno()) >= 0:
        try:
            await trio.lowlevel.wait_readable(descriptor)  # for which the kernel may have no memory
            return os.read(socket.fileno(), most)
        except BlockingIOError:
            continue
        except OSError as error:
            raise trio.BrokenResourceError from error
    raise trio.ClosedResourceError


async def wait_writable(socket: trio.socket.SocketType) -> None:
    """Return when `send_now` may send something.

    Raises:
        trio.ClosedResourceError: the socket was closed, perhaps while this call waited.
    """
    if (descriptor := socket.fileno()) < 0:
        raise trio.ClosedResourceError
    await trio.lowlevel.wait_writable(descriptor)


def send_now(socket: trio.socket.SocketType, data: bytes | bytearray | memoryview) -> int:
    """Send what the kernel takes at once; returns how many bytes that is.

    Raises:
        OSError: the connection is broken or closed.
    """
    try:
        return os.write(socket.fileno(), data)
    except BlockingIOError:
        return 0
