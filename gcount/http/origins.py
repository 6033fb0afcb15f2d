"""Protection from pages of other origins: in a browser, only the node's own pages may change something.

A browser sends a form, or a plain POST of a script, to any address that a page names, and opens websockets to it. The
page can't read the answer, but the request has been made, and from inside the network of the browser. Browsers say
which origin such a request comes from (RFC 6454; the Fetch standard, 3.1). A client that names no origin is no browser.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable

_HTTP = "http://"  # the only scheme of a node's own pages
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(?::([0-9]{0,5}))?\Z")
_LOCALHOST = "localhost"


def comes_from_elsewhere(
    fields: Iterable[tuple[bytes, bytes]], host: bytes | None, is_known: Callable[[str], bool]
) -> bool:
    """Whether a request was made by a page that is not the node's own.

    A page is the node's own if its origin is the address to which the request was sent. That address must be an IP
    address, `localhost`, or a name that the node knows: an attacker could make any other name lead to this node (DNS
    rebinding).

    Args:
        fields: the fields of the header, their names in lower case.
        host: the address to which the request was sent, as the client wrote it; None if it did not say.
        is_known: whether a host name, in lower case, is the node's.
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
    """The host and the port of a page's origin; None if it can't be a node's, such as `null`."""
    text = text.strip().lower()
    return _address(text.removeprefix(_HTTP)) if text.startswith(_HTTP) else None


def _address(text: str) -> tuple[str, int] | None:
    """The host and the port of an address, normalized; None if it is not an address."""
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
    """Whether no name server decides where a host is."""
    if host == _LOCALHOST or host.startswith("["):
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
