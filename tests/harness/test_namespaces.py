"""The network of the partition tests does what it claims: a cut is silent, both ways, and can be healed."""

from __future__ import annotations

import time

import pytest
import trio

from tests.harness.client import Address
from tests.harness.namespaces import Network, inside

PORT = 7777


async def listener(network: Network, host: int) -> trio.SocketListener:
    with inside(network.namespace(host)):
        sock = trio.socket.socket()
    await sock.bind((network.address(host), PORT))
    sock.listen()
    return trio.SocketListener(sock)


async def outcome(network: Network, one: int, other: int, wait: float = 0.3) -> str:
    """How an attempt to connect from one host to another ends."""
    try:
        with trio.fail_after(wait):
            stream = await Address(network.address(other), PORT, network.namespace(one)).connect()
    except trio.TooSlowError:
        return "silence"
    except OSError as error:
        return repr(error)
    stream.socket.close()
    return "connected"


async def test_a_cut_is_silent_both_ways_and_only_between_the_two(network: Network) -> None:
    """Neither a reset nor an ICMP error tells the sender; every other pair goes on."""
    listeners = [await listener(network, host) for host in network.hosts]
    pairs = [(one, other) for one in network.hosts for other in network.hosts if one != other]
    assert {await outcome(network, *pair) for pair in pairs} == {"connected"}
    network.cut(1, 2)
    for pair in pairs:
        assert await outcome(network, *pair) == ("silence" if set(pair) == {1, 2} else "connected"), pair
    network.isolate(3)
    assert {await outcome(network, *pair, wait=0.1) for pair in pairs} == {"silence"}
    for host in network.hosts:
        stream = await Address(network.address(host), PORT, network.router).connect()
        stream.socket.close()
    network.heal(1, 2)
    network.heal_all()
    assert {await outcome(network, *pair) for pair in pairs} == {"connected"}
    for each in listeners:
        await each.aclose()


async def test_an_established_connection_survives_a_short_cut(network: Network) -> None:
    """What was sent during the cut arrives after it, on the same connection."""
    accepting = await listener(network, 2)
    here = await Address(network.address(2), PORT, network.namespace(1)).connect()
    there = await accepting.accept()
    await here.send_all(b"before")
    assert await there.receive_some(100) == b"before"
    for silent_way in ("both", "one way"):
        if silent_way == "both":
            network.cut(1, 2)
        else:
            network.cut_one_way(1, 2)
        await here.send_all(b"during")
        with trio.move_on_after(0.5) as scope:
            await there.receive_some(100)
        assert scope.cancelled_caught, silent_way
        network.heal_all()
        began = time.monotonic()
        with trio.fail_after(10):
            assert await there.receive_some(100) == b"during"
        print(f"healed connection delivered after {time.monotonic() - began:.2f} s")
    here.socket.close()
    there.socket.close()
    await accepting.aclose()


async def test_namespaces_are_removed(network: Network) -> None:
    """Nothing is left behind."""
    with Network(2) as other:
        names = [other.router, *(other.namespace(host) for host in other.hosts)]
        with inside(names[0]):
            pass
    for name in names:
        with pytest.raises(FileNotFoundError), inside(name):
            pass
