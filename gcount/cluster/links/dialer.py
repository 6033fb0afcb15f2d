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
MAX_NAMES = 2 * MAX_MEMBERS  # whose places are remembered: those of members, and of as many that were members
MOST_ADDRESSES = 3  # of one name; each gets its part of the time that a dial has


class WebsocketTransport(Transport):
    """Websockets over TCP.

    Args:
        listen_host: the host that this node listens on, maybe a wildcard.
        listen_port: the port that it really has.
        most: dials and links at a time, each of which takes one descriptor.
        wrap: makes the stream of what was dialled.
    """

    def __init__(
        self, listen_host: str, listen_port: int, most: int = 2 * MAX_MEMBERS, *, wrap: Wrap = PlainStream
    ) -> None:
        self._wrap = wrap
        self._listen_host = listen_host
        self._listen_port = listen_port
        self._last_known: dict[str, _Places] = {}  # of names: what a name server that is silent said last
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
        """Whether it is an address of this machine on which this node listens; see `Transport.is_self`.

        The kernel is asked, so nobody else has a say in it. A name is taken to stand for what it stood for last while
        it can't be looked up.
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
                return False  # the name of several machines is nobody's own
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
                    self._last_known[host] = places  # last, as those that are dialled are looked up all the time
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
    """Ask the kernel's routes, by connecting a datagram socket: only a local address is reached from itself.

    Nothing is sent, so it also answers in a network namespace whose loopback device is down, where a node can't dial
    itself. None: it can't be asked, as no descriptor is left.
    """
    if ipaddress.ip_address(_without_scope(sockaddr[0])).is_loopback:
        return True  # from which the kernel goes to all of them, whichever it is
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # to connect it takes no time
            probe.connect(sockaddr)
            return bool(probe.getsockname()[0] == sockaddr[0])
    except OSError as error:  # no route, no such family of addresses here
        return None if error.errno in (errno.EMFILE, errno.ENFILE) else False


class _Guard:
    """Stands for the nursery of trio-websocket, whose reader raises what it thinks of the other end, or just ends.

    Nothing that answers at a peer's address may end this node, and whoever waits for the handshake has to know.
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
    """Connect to a host: to each of its first addresses in turn, with one socket at a time however many it has."""
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
    """Upgrade the connection to a websocket; nothing reads from it any more when this returns."""
    shaken = False
    async with trio.open_nursery() as nursery:
        guard = _Guard(nursery)
        with trio.move_on_at(deadline), guard.dialling:
            await trio_websocket.wrap_client_stream(
                cast(trio.Nursery, guard), cast(trio.SocketStream, stream), host, LINK_PATH
            )
            shaken = True
        nursery.cancel_scope.cancel()  # the accepting end says nothing before it is spoken to: no message is lost
    if not shaken:
        raise LinkClosed(guard.reason)
