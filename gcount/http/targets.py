"""The target of a request: the forms (RFC 9112, 3.2) that a server has to understand."""

import re

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[^?]*)(?:\?|\Z)", re.IGNORECASE)


def split_target(target: bytes) -> tuple[bytes | None, bytes] | None:
    """Split a target into its host and its path.

    Args:
        target: the target, as the client wrote it.

    Returns:
        The host that the target names in place of the Host field (None if it names none), and the path as it was sent.
        The path `*` means the whole server. None if the target has no path.
    """
    if target.startswith(b"/"):
        return None, target.partition(b"?")[0]
    if target == b"*":
        return None, target
    absolute = _ABSOLUTE.match(target)
    return (absolute[1], absolute[2]) if absolute else None


def framed_path(path: bytes) -> str:
    """The path that the framework's routes match: as it was sent, because an encoded slash belongs to a name.

    Of several slashes at the beginning, the framework drops all but one. So the second one is encoded here, and no
    route is found.
    """
    return ("/%2F" + path[2:].decode("ascii")) if path.startswith(b"//") else path.decode("ascii")
