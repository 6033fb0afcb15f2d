"""Which pages of a browser may change something here: none but the node's own (RFC 6454; the Fetch standard, 3.1).

A browser sends a form, or a plain POST of a script, to any address that a page names, and opens websockets to it. The
page can't read the answer, but the request was made: from inside the network in which the browser is. Browsers say
where such a request comes from. Whatever says nothing is no browser.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable

_HTTP = "http://"  # the only scheme that a node speaks
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(?::([0-9]{0,5}))?\Z")
_LOCALHOST = "localhost"


def comes_from_elsewhere(
    fields: Iterable[tuple[bytes, bytes]], host: bytes | None, is_known: Callable[[str], bool]
) -> bool:
    """Whether a request was made by a page that is not the node's own.

    A page's origin is the node's own when it is the very address that the request went to, and this can't be a name
    that somebody else made lead here (DNS rebinding): it is an IP address, `localhost`, or a name that the node knows.

    Args:
        fields: of the header, names in lower case.
        host: where the request went to, as the client wrote it; None when it did not say.
        is_known: says of a host name, in lower case, whether it is the node's.
    """
    origins = [value for name, value in fields if name == b"origin"]
    sites = b",".join([value for name, value in fields if name == b"sec-fetch-site"]).lower().split(b",")
    if b"cross-site" in [site.strip() for site in sites]:
        return True
    if not origins:
        return False
    own = _address((host or b"").decode("latin-1"))
    if own is None or not (_is_unmistakable(own[0]) or is_known(own[0])):
        return True
    return any(_origin(origin.decode("latin-1")) != own for origin in origins)


def _origin(text: str) -> tuple[str, int] | None:
    """The host and the port of a page's origin; None for all that can't be a node's, such as `null`."""
    text = text.strip().lower()
    return _address(text.removeprefix(_HTTP)) if text.startswith(_HTTP) else None


def _address(text: str) -> tuple[str, int] | None:
    """A host and a port, written in one way."""
    found = _AUTHORITY.match(text.strip().lower())
    if found is None:
        return None
    host = found[1]
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    return host, int(found[2] or 80)


def _is_unmistakable(host: str) -> bool:
    """Whether no name server has a say in where a host is."""
    if host == _LOCALHOST or host.startswith("["):
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
