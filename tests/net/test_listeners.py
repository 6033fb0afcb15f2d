"""The listeners of a node: one port, at all addresses of a host."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from gcount.errors import AddressTaken
from gcount.net.listeners import open_listeners
from gcount.settings import Settings
from tests.harness.cluster import has_ipv6

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")


class BothFamilies(trio.abc.HostnameResolver):
    """A name server that gives every name two addresses."""

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        ]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise AssertionError("nobody needs the name of an address")


def listen_on(host: str, port: int = 0) -> Settings:
    return Settings(1, host, port, Path("/data"), 5.0, "", 1000, "text")


async def reached(*addresses: str, port: int) -> None:
    for address in addresses:
        await (await trio.open_tcp_stream(address, port)).aclose()


async def test_one_address_gets_one_listener() -> None:
    (listener,) = await open_listeners(listen_on("127.0.0.1"))
    await reached("127.0.0.1", port=listener.socket.getsockname()[1])
    await listener.aclose()


@needs_ipv6
async def test_all_addresses_of_a_name_get_the_same_free_port() -> None:
    trio.socket.set_custom_hostname_resolver(BothFamilies())
    for _ in range(20):
        first, second = await open_listeners(listen_on("node.example"))
        port = first.socket.getsockname()[1]
        assert second.socket.getsockname()[:2] == ("::1", port)
        await first.aclose()
        await second.aclose()


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "0::0"])
async def test_the_wildcard_of_ipv6_takes_ipv4_too(host: str) -> None:
    listeners = await open_listeners(listen_on(host))
    await reached("127.0.0.1", "::1", port=listeners[0].socket.getsockname()[1])
    for listener in listeners:
        await listener.aclose()


async def test_an_error_names_a_taken_address_as_it_was_given() -> None:
    (listener,) = await open_listeners(listen_on("127.0.0.1"))
    port = listener.socket.getsockname()[1]
    with pytest.raises(AddressTaken, match=f"can't listen on 127.0.0.1:{port}: "):
        await open_listeners(listen_on("127.0.0.1", port))
    await listener.aclose()


@needs_ipv6
async def test_an_error_names_a_taken_ipv6_address_in_brackets() -> None:
    (listener,) = await open_listeners(listen_on("::1"))
    port = listener.socket.getsockname()[1]
    with pytest.raises(AddressTaken, match=rf"can't listen on \[::1\]:{port}: "):
        await open_listeners(listen_on("::1", port))
    await listener.aclose()
