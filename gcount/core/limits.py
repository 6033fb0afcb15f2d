"""The limits of the data model, the protocol and the files, and the one rule for names.

Whatever a client or a peer can make grow has a limit. The limits that both ends of a link, or the writer and the
reader of a file, rely on are defined here. All other limits are in `options.py`.
"""

import re

MAX_NAME_BYTES = 255
MAX_CELL = 2**64 - 1  # one node's own part of one counter
MAX_VERSION = 2**62  # versions and epochs; adding to a hostile one still stays below 2^63
MAX_INCARNATIONS = 4096  # of a whole cluster; a digest of so many still fits into MAX_MESSAGE_BYTES
MAX_MEMBERS = 128
MAX_HOST_BYTES = 253
MAX_CLUSTER_BYTES = 255
ID_BYTES = 16  # the ids of nodes, starts and incarnations are 128 random bits

MAX_MESSAGE_BYTES = 256 * 1024  # a receiver closes a link on which a longer message comes
MAX_FRAME_BYTES = 1024 * 1024  # the payload of one frame in a log or a checkpoint

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def valid_name(name: str) -> bool:
    """Whether a counter may have this name: 1 to 255 bytes of UTF-8 without control characters."""
    if not name or len(name) > MAX_NAME_BYTES or _CONTROL.search(name):
        return False
    try:
        return name.isascii() or len(name.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


MAX_ASKED = 32  # members that a node asks for their config at the same time, for all lists that are being posted
