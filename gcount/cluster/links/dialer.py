"""Dialling another node: a connection over TCP, and trio-websocket's handshake."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import trio
import trio_websocket

from gcount.cluster.links.transport import CONNECT_TIMEOUT, LINK_PATH, Link, Transport
from gcount.cluster.links.websocket import WebsocketLink
from gcount.core.limits import MAX_MEMBERS
from gcount.core.state.membership import split_address
from gcount.errors import LinkClosed
from gcount.net.stream import PlainStream, Stream, Wrap

_Places = list[tuple[int, tuple[Any, ...]]]
"""Addresses, each as an address family and a socket address."""

MAX_NAMES = 2 * MAX_MEMBERS  # names whose addresses are remembered: of members, and of as many removed ones
MOST_ADDRESSES = 3  # addresses of one name that are tried; they share the time of one dial


class WebsocketTransport(Transport):
    """Websockets over TCP.

    Args:
        listen_host: the host that this node listens on; it may be a wildcard.
        listen_port: the port that it really listens on.
        most: how many dials and links there may be at the same time. Each takes one file descriptor.
        wrap: makes a stream of a dialled connection.
    """

    def __init__(
        self, listen_host: str, listen_port: int, most: int = 2 * MAX_MEMBERS, *, wrap: Wrap = PlainStream
    ) -> None:
        self._wrap = wrap
        self._listen_host = listen_host
        self._listen_port = listen_port
        self._last_known: dict[str, _Places] = {}  # the last addresses of names, for when a name server is silent
        self._free = trio.Semaphore(most)

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[Link]:
        """Dial a normalised address; see `Transport.connect`."""
        host, port = split_address(address)
        deadline = trio.current_time() + CONNECT_TIMEOUT
        with self._place():
            async with self._wrap(await _open_stream(host, port, deadline)) as stream:
                await _shake_hands(stream, f"{host}:{port}", deadline)
                link = WebsocketLink(stream, dialled=True, remote=_remote(stream))
                try:
                    yield link
                finally:
                    link.close()

    @contextmanager
    def _place(self) -> Iterator[None]:
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            raise LinkClosed("not dialled: the open-file limit of this process is too low for more links") from None
        try:
            yield
        finally:
            self._free.release()

    async def is_self(self, address: str) -> bool | None:
        """Whether an address is one of this machine's on which this node listens; see `Transport.is_self`.

        Only the kernel is asked, so that no other node can influence the answer. While a name can't be looked up, its
        last known addresses are used.
        """
        host, port = split_address(address)
        if port != self._listen_port:
            return False
        own, places = await self._look_up(self._listen_host), await self._look_up(host)
        if not own or not places:
            return None
        listens_on = {sockaddr[0] for _, sockaddr in own}
        anywhere = bool(listens_on & {"0.0.0.0", "::"})
        found: bool | None = True
        for family, sockaddr in places:
            reached = _reaches_itself(family, sockaddr)
            if reached is False or not (anywhere or sockaddr[0] in listens_on):
                return False  # the name also leads to another machine
            found = found and reached
        return found

    async def stands_for(self, address: str) -> frozenset[str] | None:
        """The addresses of a name; see `Transport.stands_for`."""
        host, _ = split_address(address)
        if _is_numeric(host):
            return None
        places = await self._look_up(host)
        return frozenset(_without_scope(sockaddr[0]) for _, sockaddr in places) or None

    async def _look_up(self, host: str) -> _Places:
        with trio.move_on_after(CONNECT_TIMEOUT):  # name servers may hang
            try:
                found = await trio.socket.getaddrinfo(host, 0, type=trio.socket.SOCK_DGRAM)
            except (OSError, RuntimeError):  # the latter: no thread can be started
                pass
            else:
                places: _Places = [(family, sockaddr) for family, _, _, _, sockaddr in found]
                if not _is_numeric(host):
                    self._last_known.pop(host, None)
                    self._last_known[host] = places  # at the end of the dict: what is looked up often is dropped last
                    if len(self._last_known) > MAX_NAMES:
                        del self._last_known[next(iter(self._last_known))]
                return places
        return self._last_known.get(host, [])


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _without_scope(host: str) -> str:
    return host.partition("%")[0]


def _remote(stream: Stream) -> str:
    try:
        return _without_scope(stream.remote()[0])
    except OSError:
        raise LinkClosed("the connection was lost") from None


def _reaches_itself(family: int, sockaddr: tuple[Any, ...]) -> bool | None:
    """Whether a socket address belongs to this machine; None when no descriptor is left to find out.

    Connecting a datagram socket asks the kernel's routing table: only for a local address it chooses that very address
    as the source. Nothing is sent, so this also works in a network namespace whose loopback device is down, where a
    node can't dial itself.
    """
    if ipaddress.ip_address(_without_scope(sockaddr[0])).is_loopback:
        return True  # for the check below, the kernel may choose another loopback address as the source
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # connecting a datagram socket does not block
            probe.connect(sockaddr)
            return bool(probe.getsockname()[0] == sockaddr[0])
    except OSError as error:  # no route, no such family of addresses here
        return None if error.errno in (errno.EMFILE, errno.ENFILE) else False


class _Guard:
    """Takes the place of the nursery in which trio-websocket starts its reader.

    The reader raises when the other end breaks the protocol, or it just ends. Nothing that answers at a peer's address
    may end this node, so its errors are caught, and the handshake that waits for it is cancelled with a reason.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.reason = "no connection in time"
        self.dialling = trio.CancelScope()
        self._nursery = nursery

    def start_soon(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        self._nursery.start_soon(self._run, task, *args)

    async def _run(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            await task(*args)
            self.reason = "the connection was closed during the handshake"
        except trio_websocket.ConnectionRejected as error:
            self.reason = f"no node answers there, or it is still starting (HTTP status {error.status_code})"
        except Exception:
            self.reason = "no node answers there: what does speaks no websocket"
        self.dialling.cancel()


async def _open_stream(host: str, port: int, deadline: float) -> trio.SocketStream:
    """Connect to a host: try its first addresses one after the other, so that a dial takes one descriptor at a time."""
    reason = "no connection in time"
    with trio.move_on_at(deadline):
        try:
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        except (OSError, RuntimeError) as error:  # the latter: no thread can be started
            raise LinkClosed(f"no connection: {str(error) or type(error).__name__}") from None
        tried = found[:MOST_ADDRESSES]
        for left, (family, _, protocol, _, sockaddr) in zip(range(len(tried), 0, -1), tried, strict=True):
            now = trio.current_time()
            with trio.move_on_at(now + (deadline - now) / left):
                try:
                    return await _connect(family, protocol, sockaddr)
                except OSError as error:
                    reason = f"no connection: {os.strerror(error.errno) if error.errno else error}"
    raise LinkClosed(reason)


async def _connect(family: int, protocol: int, sockaddr: tuple[Any, ...]) -> trio.SocketStream:
    connection = trio.socket.socket(family, trio.socket.SOCK_STREAM, protocol)
    try:
        await connection.connect(sockaddr)
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)


async def _shake_hands(stream: Stream, host: str, deadline: float) -> None:
    """Upgrade the connection to a websocket. When this returns, trio-websocket does not read from it any more."""
    shaken = False
    async with trio.open_nursery() as nursery:
        guard = _Guard(nursery)
        with trio.move_on_at(deadline), guard.dialling:
            await trio_websocket.wrap_client_stream(
                cast(trio.Nursery, guard), cast(trio.SocketStream, stream), host, LINK_PATH
            )
            shaken = True
        nursery.cancel_scope.cancel()  # no message is lost: the accepting end waits for this end's hello
    if not shaken:
        raise LinkClosed(guard.reason)
