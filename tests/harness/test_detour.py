"""Bad weather on the tests' network: packets are late or lost where and as long as they should be."""

from __future__ import annotations

import time

import trio

from tests.harness.detour import Netem, Weather
from tests.harness.namespaces import Network, inside


class Echo:
    """A UDP echo between two hosts."""

    def __init__(self, network: Network, one: int, other: int) -> None:
        self._there = (network.address(other), 7777)
        with inside(network.namespace(one)):
            self._near = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
        with inside(network.namespace(other)):
            self._far = trio.socket.socket(type=trio.socket.SOCK_DGRAM)

    async def __aenter__(self) -> Echo:
        await self._far.bind(("0.0.0.0", 7777))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._near.close()
        self._far.close()

    async def trip(self, within: float = 5.0) -> float | None:
        """Seconds from here to there, or None when it did not arrive."""
        began = time.monotonic()
        await self._near.sendto(b"x", self._there)
        with trio.move_on_after(within):
            await self._far.recv(10)
            return time.monotonic() - began
        return None


async def test_a_delay_is_one_way_and_ends(network: Network) -> None:
    """Packets are never early, and late only in the disturbed direction and only until `calm`."""
    async with Echo(network, 1, 2) as disturbed, Echo(network, 3, 1) as other:
        how = network.disturb([(1, 2)], Weather(delay=1.0))
        print(f"disturbed by {how}")
        late = await disturbed.trip()
        assert late is not None
        assert late >= 1.0, late
        undisturbed = await other.trip(within=0.9)
        assert undisturbed is not None
        network.calm()
        assert await disturbed.trip(within=0.9) is not None


async def test_loss_is_total_at_1_and_partial_below(network: Network) -> None:
    """All packets are lost, then some, then none."""
    async with Echo(network, 1, 2) as echo:
        network.disturb([(1, 2)], Weather(loss=1.0))
        assert await echo.trip(within=0.2) is None
        network.disturb([(1, 2)], Weather(loss=0.5))
        arrived = [await echo.trip(within=0.05) is not None for _ in range(60)]
        assert 0 < sum(arrived) < 60, arrived
        network.calm()
        assert all([await echo.trip() is not None for _ in range(20)])


async def test_a_cut_holds_in_bad_weather_whichever_came_first(network: Network) -> None:
    """There is no way round a cut."""
    async with Echo(network, 1, 2) as echo:
        network.disturb([(1, 2)], Weather(delay=0.01))
        network.cut(1, 2)
        assert await echo.trip(within=0.2) is None
        network.heal_all()
        assert await echo.trip() is not None
        network.calm()
        network.cut(1, 2)
        network.disturb([(1, 2)], Weather(delay=0.01))
        assert await echo.trip(within=0.2) is None


async def test_the_cables_of_netem_carry_packets(network: Network) -> None:
    """Also if the kernel lacks netem: the cables work without it."""
    network._install(Netem(network.router))
    network._lead({(1, 2)})
    async with Echo(network, 1, 2) as echo:
        assert await echo.trip() is not None
