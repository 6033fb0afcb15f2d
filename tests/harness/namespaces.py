"""Hosts in network namespaces around one router, and real cuts between them.

Every host has an address and one cable to the router. A cut is a routing rule in the router. It drops packets from one
host to another silently (no ICMP, no reset), as a dead network does. Bad weather is a rule too: it leads packets over a
detour (see detour.py), on which they are late or lost. The tests' own sockets are in the router, so they reach every
host during every cut. This needs root, iproute2, and no firewall.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.harness.detour import DelayLine, Netem, Weather

NAMESPACES = Path("/run/netns")
PREFIX = "gct"
CLONE_NEWNET = 0x40000000
FROM_DETOUR, CUT, TO_DETOUR = 50, 100, 200  # the order of rules: between hosts with a cut there is no detour
DETOUR_TABLE = 77
_numbers = itertools.count()


def why_not() -> str | None:
    """Why namespaces cannot be used here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the ip command (iproute2)"
    name = f"{PREFIX}-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces do not work here: {made.stderr.strip()}"
    try:
        for command in (
            ["link", "add", "va", "type", "veth", "peer", "name", "vb"],
            ["rule", "add", "from", "10.0.0.1", "to", "10.0.0.2", "blackhole"],
        ):
            tried = subprocess.run(["ip", "-n", name, *command], capture_output=True, text=True)
            if tried.returncode != 0:
                return f"ip {' '.join(command)} does not work here: {tried.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return None


@contextlib.contextmanager
def inside(namespace: str | None) -> Iterator[None]:
    """Run the body in a namespace: sockets that it creates stay there. It must not await."""
    if namespace is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            yield
        finally:
            if libc.setns(home, CLONE_NEWNET) != 0:
                os._exit(70)  # in the wrong namespace, no later result could be trusted
    finally:
        os.close(there)
        os.close(home)


def _ip(namespace: str | None, *commands: str) -> None:
    where = [] if namespace is None else ["-n", namespace]
    done = subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(commands), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip: {done.stderr.strip()} in: {'; '.join(commands)}")


def _remove_leftovers() -> None:
    """Remove namespaces of test runs that were killed before they could clean up."""
    for path in NAMESPACES.glob(f"{PREFIX}-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(Path("/etc/netns") / path.name, ignore_errors=True)
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True)


class Network:
    """Hosts 1..count at 10.77.0.1.. around a router at 10.77.0.254, where the tests' clients are."""

    ROUTER = "10.77.0.254"

    def __init__(self, count: int, *, loopback_up: bool = True) -> None:
        self._stem = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.router = f"{self._stem}-r"
        self.hosts = list(range(1, count + 1))
        self.loopback_up = loopback_up
        self._cuts: set[tuple[int, int]] = set()
        self._disturbed: set[tuple[int, int]] = set()
        self._detour: Netem | DelayLine | None = None

    def address(self, host: int) -> str:
        return f"10.77.0.{host}"

    def namespace(self, host: int) -> str:
        return f"{self._stem}-{host}"

    def __enter__(self) -> Network:
        _remove_leftovers()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        _ip(None, f"netns add {self.router}", *(f"netns add {self.namespace(host)}" for host in self.hosts))
        _ip(self.router, "link set lo up")
        with inside(self.router):  # /proc/thread-self/net is the namespace's; sys/net follows the opener
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
        for host in self.hosts:
            there = self.namespace(host)
            _ip(
                self.router,
                f"link add h{host} type veth peer name eth0 netns {there}",
                f"addr add {self.ROUTER}/32 dev h{host}",
                f"link set h{host} up",
            )
            _ip(
                there,
                f"addr add {self.address(host)}/32 dev eth0",
                "link set eth0 up",
                f"route add {self.ROUTER} dev eth0 src {self.address(host)}",
                f"route add default via {self.ROUTER} dev eth0 src {self.address(host)}",
                *(["link set lo up"] if self.loopback_up else []),
            )
            _ip(self.router, f"route add {self.address(host)} dev h{host}")

    def move(self, address: str, host: int) -> None:
        """Move an address to a host, as a floating address is moved; no other host has it then."""
        for other in self.hosts:
            there = self.namespace(other)
            subprocess.run(["ip", "-n", there, "addr", "del", f"{address}/32", "dev", "eth0"], capture_output=True)
        _ip(self.namespace(host), f"addr add {address}/32 dev eth0")
        if address == self.address(host):  # the routes that were removed with the address
            _ip(
                self.namespace(host),
                f"route replace {self.ROUTER} dev eth0 src {address}",
                f"route replace default via {self.ROUTER} dev eth0 src {address}",
            )
        _ip(self.router, f"route replace {address} dev h{host}")

    def names(self, host: int, names: Mapping[str, str]) -> None:
        """Set the addresses of names on a host. The first time it has to be before the first start of its node."""
        folder = Path("/etc/netns") / self.namespace(host)
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in names.items())]
        (folder / "hosts").write_text("\n".join(lines) + "\n")

    def __exit__(self, *_: object) -> None:
        if self._detour is not None:
            self._detour.close()
            self._detour = None
        for name in [*(self.namespace(host) for host in self.hosts), self.router]:
            if (NAMESPACES / name).exists():
                subprocess.run(["ip", "netns", "del", name], capture_output=True)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)

    def _rules(self, had: set[tuple[int, int]], wanted: set[tuple[int, int]], pref: int, action: str) -> None:
        commands = []
        for verb, pairs in (("add", wanted - had), ("del", had - wanted)):
            for one, other in sorted(pairs):
                commands.append(f"rule {verb} pref {pref} from {self.address(one)} to {self.address(other)} {action}")
        if commands:
            _ip(self.router, *commands)

    def _apply(self, wanted: set[tuple[int, int]]) -> None:
        self._rules(self._cuts, wanted, CUT, "blackhole")
        self._cuts = wanted

    def cut_one_way(self, one: int, other: int) -> None:
        """Drop what `one` sends to `other`."""
        self._apply(self._cuts | {(one, other)})

    def cut(self, one: int, other: int) -> None:
        """Drop everything between two hosts, both ways."""
        self._apply(self._cuts | {(one, other), (other, one)})

    def heal(self, one: int, other: int) -> None:
        self._apply(self._cuts - {(one, other), (other, one)})

    def isolate(self, host: int) -> None:
        """Cut a host from every other host (the tests' clients still reach it)."""
        others = [other for other in self.hosts if other != host]
        self._apply(self._cuts | {(host, o) for o in others} | {(o, host) for o in others})

    def isolate_all(self) -> None:
        self._apply({(one, other) for one in self.hosts for other in self.hosts if one != other})

    def heal_all(self) -> None:
        self._apply(set())

    def disturb(self, pairs: Collection[tuple[int, int]], weather: Weather) -> str:
        """Make bad weather for packets from the first to the second host of each pair, until `calm`.

        Returns:
            How it is made: by netem, or by a substitute.
        """
        from tests.harness.detour import open_detour  # it is built from this file's parts

        if self._detour is None:
            self._install(open_detour(self.router))
        assert self._detour is not None
        self._detour.set(weather)
        self._lead(set(pairs))
        return self._detour.how

    def _install(self, detour: DelayLine | Netem) -> None:
        self._detour = detour
        _ip(
            self.router,
            f"route add default dev {detour.entrance} table {DETOUR_TABLE}",
            f"rule add pref {FROM_DETOUR} iif {detour.exit} lookup main",
        )

    def calm(self) -> None:
        """End all bad weather. Packets that are on the detour still arrive."""
        self._lead(set())

    def _lead(self, wanted: set[tuple[int, int]]) -> None:
        self._rules(self._disturbed, wanted, TO_DETOUR, f"lookup {DETOUR_TABLE}")
        self._disturbed = wanted
