"""A bad road: the packets led over it arrive late, out of order, or never.

It is `tc netem` on a pair of cables where the kernel has netem, and elsewhere a TUN device whose packets a thread
takes out and puts back when they are due. Both live in the router's namespace and go with it.
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
    """What a packet suffers: seconds of delay, seconds by which that varies both ways, and the share that is lost."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0


class Netem:
    """A pair of cables, netem at the entrance."""

    how = "tc netem"
    entrance, exit = "detour", "detour-end"

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        # One hardware address at both ends, and no ARP: what enters is taken for its own by the exit.
        for command in (
            f"link add {self.entrance} address {MAC} type veth peer name {self.exit} address {MAC}",
            f"link set {self.entrance} arp off up",
            f"link set {self.exit} arp off up",
        ):
            subprocess.run(["ip", "-n", namespace, *command.split()], check=True, capture_output=True)

    def set(self, weather: Weather) -> None:
        """From now on. Raises RuntimeError where the kernel has no netem."""
        delay = [f"delay {weather.delay * 1000:.0f}ms {weather.jitter * 1000:.0f}ms"] if weather.delay else []
        loss = [f"loss {weather.loss * 100:.1f}%"] if weather.loss else []
        command = f"qdisc replace dev {self.entrance} root netem limit 100000 {' '.join(delay + loss)}"
        done = subprocess.run(["tc", "-n", self._namespace, *command.split()], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"tc {command}: {done.stderr.strip()}")

    def close(self) -> None:
        subprocess.run(["ip", "-n", self._namespace, "link", "del", self.entrance], capture_output=True)


class DelayLine:
    """A TUN device and the thread that is the world behind it."""

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
        """From now on."""
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
    """The road; it has to be led to: what is routed to its `entrance` comes in again from its `exit`."""
    with inside(namespace):
        for device in ("all", "default"):  # packets come back in where no answer to them would go out
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
    """How bad weather is made here, where namespaces can.

    Raises:
        OSError: it can't be made.
    """
    with Network(1) as network:
        try:
            road = open_detour(network.router)
        except (OSError, subprocess.CalledProcessError) as error:
            raise OSError(f"the kernel has no netem, and there is no TUN device: {error}") from error
        road.close()
        return road.how
