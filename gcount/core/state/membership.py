"""The membership: a durable register of the cluster's members, merged by (version, digest of the set).

Every hello carries it, so it is enough to post a config to one node. Merging takes the greater of two memberships,
which does not depend on the order of arrival. The clock decides only which of two conflicting lists wins.
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping

import msgspec

from gcount.core.limits import MAX_HOST_BYTES, MAX_MEMBERS, MAX_VERSION
from gcount.errors import BadConfig

_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,15})?\]\Z")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_PORT = re.compile(r"[0-9]{1,5}\Z")


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """The members of the cluster.

    Args:
        version: 0 before the first config.
        actors: normalised `host:port` addresses, sorted, without duplicates.
    """

    version: int = 0
    actors: tuple[str, ...] = ()

    def rank(self) -> tuple[int, bytes]:
        """The key by which two memberships are compared; equal only for equal memberships."""
        return self.version, hashlib.sha256("\n".join(self.actors).encode()).digest()

    def merge(self, other: "Membership") -> "Membership":
        """The greater of the two: commutative, associative, idempotent."""
        if other.version != self.version or other.actors == self.actors:  # all but conflicting lists: no hash needed
            return other if other.version > self.version else self
        return other if other.rank() > self.rank() else self

    def post(self, actors: Iterable[str], now_ms: int) -> "Membership":
        """The membership after a list of addresses was posted.

        Args:
            actors: normalised addresses, in any order, duplicates allowed.
            now_ms: the wall clock, in ms since 1970.

        Returns:
            This membership when the set is the same; else one that wins over it.

        Raises:
            BadConfig: the version has reached its limit. Only a hostile node can bring that about.
        """
        wanted = tuple(sorted(set(actors)))
        if wanted == self.actors:
            return self
        if self.version >= MAX_VERSION:
            raise BadConfig(f"the config's version is {self.version} and can't grow any more")
        # Above what is known, so that the operator's list wins here; and by the clock, so that of two lists that are
        # posted to nodes which can't reach each other the later one wins.
        return Membership(max(self.version + 1, now_ms), wanted)

    def valid(self) -> bool:
        """Whether a membership that arrived over a link is well-formed."""
        if not 0 <= self.version <= MAX_VERSION or len(self.actors) > MAX_MEMBERS:
            return False
        if self.actors != tuple(sorted(set(self.actors))) or (self.version == 0) != (not self.actors):
            return False
        return all(map(valid_address, self.actors))


def valid_address(text: str) -> bool:
    """Whether an address that arrived over a link is spelled as `normalise_address` spells it."""
    try:
        return normalise_address(text, 0) == text
    except BadConfig:
        return False


def shared_nodes(actors: Iterable[str], node_of: Mapping[str, bytes]) -> list[list[str]]:
    """The entries of a membership that lead to one node, where each should lead to a node of its own.

    Args:
        actors: addresses.
        node_of: the id of the node that is known to be at an address.
    """
    entries: dict[bytes, list[str]] = {}
    for address in actors:
        if address in node_of:
            entries.setdefault(node_of[address], []).append(address)
    return sorted(sorted(alike) for alike in entries.values() if len(alike) > 1)


def parse_actors(body: object, own_port: int) -> list[str]:
    """The normalised addresses of a posted config.

    Args:
        body: the decoded JSON document.
        own_port: the port of entries that name none.

    Raises:
        BadConfig: the body is not `{"actors": [...]}` with 1 to 128 valid entries, or one of them can't be the address
            of one node.
    """
    if not isinstance(body, dict) or "actors" not in body:
        raise BadConfig('a config is a JSON object like {"actors": ["10.0.0.1", "10.0.0.2:7777"]}')
    actors = body["actors"]
    if not isinstance(actors, list) or not actors:
        raise BadConfig('"actors" must be a list of at least one address')
    if len(actors) > MAX_MEMBERS:
        raise BadConfig(f'"actors" has {len(actors)} entries; at most {MAX_MEMBERS} are allowed')
    return [_reachable(normalise_address(actor, own_port)) for actor in actors]


def normalise_address(text: object, default_port: int) -> str:
    """One spelling for each address: `host:port`, host in lower case, IPv6 compressed and in brackets.

    Raises:
        BadConfig: the text is not an IPv4 address, an [IPv6] address or a host name with an optional :port.
    """
    if not isinstance(text, str):
        raise BadConfig(f"an actor must be a string, not {type(text).__name__}")
    host, port = _split(text.strip())
    number = default_port if port is None else int(port) if _PORT.match(port) else -1
    if not 0 <= number <= 65535 or (port is not None and number == 0):
        raise BadConfig(f"bad port in actor {_shown(text)}: 1 to 65535 is allowed")
    return f"{_normalise_host(host, text)}:{number}"


def split_address(address: str) -> tuple[str, int]:
    """Host (an IPv6 one without its brackets) and port of a normalised address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _reachable(address: str) -> str:
    """The address, if a single node can have it.

    Raises:
        BadConfig: it is a multicast or broadcast address, or 0.0.0.0, which every node would take for itself.
    """
    host, _ = split_address(address)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return address  # a name
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_unspecified:
        raise BadConfig(f"bad actor {host}: it means every address of a machine; name the one that others reach it by")
    if ip.is_multicast or ip == _BROADCAST:
        raise BadConfig(f"bad actor {host}: it is the address of many machines; each actor is one node")
    return address


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host + bracket, rest[1:] if rest else None
        return "", None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _normalise_host(host: str, text: str) -> str:
    try:
        if host.startswith("["):
            if not _IPV6.match(host):
                raise ValueError("not an IPv6 address with an interface's name at most")
            return f"[{_compressed(ipaddress.IPv6Address(host[1:-1]))}]"
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    named = all(_HOST_LABEL.match(label) for label in labels) and not labels[-1].isdigit()
    if not named or len(host) > MAX_HOST_BYTES:
        raise BadConfig(
            f"bad actor {_shown(text)}: an IPv4 address, [IPv6] or host name with an optional :port is allowed"
        )
    return ".".join(labels).lower()


def _compressed(address: ipaddress.IPv6Address) -> str:
    """The compressed spelling. Versions of Python up to 3.13 spell an IPv4 address inside IPv6 in different ways."""
    return address.compressed if address.ipv4_mapped is None else f"::ffff:{address.ipv4_mapped}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
