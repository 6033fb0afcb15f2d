"""What a request line asks for: the forms of a target (RFC 9112, 3.2), as far as a server answers them."""

import re

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[^?]*)(?:\?|\Z)", re.IGNORECASE)


def split_target(target: bytes) -> tuple[bytes | None, bytes] | None:
    """Where a request goes.

    Args:
        target: as the client wrote it.

    Returns:
        The host that it names itself, in place of the Host field, and the path, as it was sent; `*` stands for the
        whole server. None when it has no path.
    """
    if target.startswith(b"/"):
        return None, target.partition(b"?")[0]
    if target == b"*":
        return None, target
    absolute = _ABSOLUTE.match(target)
    return (absolute[1], absolute[2]) if absolute else None


def framed_path(path: bytes) -> str:
    """A path for the framework's routes, which match it as it was sent: an encoded slash belongs to a name.

    The framework drops all slashes but one at the beginning; a second one is shown encoded, so that no route is found.
    """
    return ("/%2F" + path[2:].decode("ascii")) if path.startswith(b"//") else path.decode("ascii")
