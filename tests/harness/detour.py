"""A detour with bad weather: packets that are led over it arrive late, out of order, or never.

If the kernel has netem, it is `tc netem` on a pair of virtual cables. Otherwise it is a TUN device: a thread takes the
packets out and puts them back when they are due. Both are in the router's namespace, and end with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.harness.namespaces import Network, inside

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MAC = "02:00:00:00:00:77"


@dataclass(frozen=True)
class Weather:
    """What happens to packets: seconds of delay, seconds by which that varies up and down, the share that is lost."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0


class Netem:
    """A pair of cables, netem at the entrance."""

    how = "tc netem"
    entrance, exit = "detour", "detour-end"

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        # Both ends have the same hardware address, and there is no ARP: so the exit takes all packets for its own.
        for command in (
            f"link add {self.entrance} address {MAC} type veth peer name {self.exit} address {MAC}",
            f"link set {self.entrance} arp off up",
            f"link set {self.exit} arp off up",
        ):
            subprocess.run(["ip", "-n", namespace, *command.split()], check=True, capture_output=True)

    def set(self, weather: Weather) -> None:
        """Change the weather from now on. Raises RuntimeError if the kernel has no netem."""
        delay = [f"delay {weather.delay * 1000:.0f}ms {weather.jitter * 1000:.0f}ms"] if weather.delay else []
        loss = [f"loss {weather.loss * 100:.1f}%"] if weather.loss else []
        command = f"qdisc replace dev {self.entrance} root netem limit 100000 {' '.join(delay + loss)}"
        done = subprocess.run(["tc", "-n", self._namespace, *command.split()], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"tc {command}: {done.stderr.strip()}")

    def close(self) -> None:
        subprocess.run(["ip", "-n", self._namespace, "link", "del", self.entrance], capture_output=True)


class DelayLine:
    """A TUN device, and a thread that delays and drops its packets."""

    how = "a delay line on a TUN device"
    entrance = exit = "detour"

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self._device, TUNSETIFF, struct.pack("16sH22x", self.entrance.encode(), IFF_TUN | IFF_NO_PI))
        subprocess.run(["ip", "-n", namespace, "link", "set", self.entrance, "up"], check=True, capture_output=True)
        self._weather = Weather()
        self._rng = random.Random(0)
        self._due: list[tuple[float, int, bytes]] = []
        self._closing, self._close = os.pipe()
        self._thread = threading.Thread(target=self._run, name="detour", daemon=True)
        self._thread.start()

    def set(self, weather: Weather) -> None:
        """Change the weather from now on."""
        self._weather = weather

    def close(self) -> None:
        os.write(self._close, b".")
        self._thread.join()
        for descriptor in (self._device, self._closing, self._close):
            os.close(descriptor)

    def _run(self) -> None:
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            readable, _, _ = select.select([self._device, self._closing], [], [], wait)
            if self._closing in readable:
                return
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._take(os.read(self._device, 65536))
            while self._due and self._due[0][0] <= time.monotonic():
                with contextlib.suppress(OSError):  # a full queue loses packets, as a network does
                    os.write(self._device, heapq.heappop(self._due)[2])

    def _take(self, packet: bytes) -> None:
        weather = self._weather
        if self._rng.random() < weather.loss:
            return
        late = max(0.0, weather.delay + self._rng.uniform(-weather.jitter, weather.jitter))
        heapq.heappush(self._due, (time.monotonic() + late, self._rng.getrandbits(32), packet))


def open_detour(namespace: str) -> Netem | DelayLine:
    """Open a detour. Packets that are routed to its `entrance` come back from its `exit`."""
    with inside(namespace):
        # Packets come back from a device to which no answer to them would go; the kernel would drop them.
        for device in ("all", "default"):
            Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("0\n")
    with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
        road = Netem(namespace)
        try:
            road.set(Weather(delay=0.01))
        except (RuntimeError, FileNotFoundError):
            road.close()
        else:
            return road
    return DelayLine(namespace)


def probe() -> str:
    """How bad weather is made on this machine, if it has namespaces.

    Raises:
        OSError: bad weather can't be made here.
    """
    with Network(1) as network:
        try:
            road = open_detour(network.router)
        except (OSError, subprocess.CalledProcessError) as error:
            raise OSError(f"the kernel has no netem, and there is no TUN device: {error}") from error
        road.close()
        return road.how
