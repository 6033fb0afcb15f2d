"""The limits of the data model, the protocol and the files, and the one rule for names.

A limit that is neither here nor in `options.py` is a bug: whatever a client or a peer can make grow has to stop
somewhere. Here are those that both ends of a link or a file rely on.
"""

import re

MAX_NAME_BYTES = 255
MAX_CELL = 2**64 - 1  # one node's own part of one counter
MAX_VERSION = 2**62  # versions and epochs; leaves room to add to a hostile one
MAX_INCARNATIONS = 4096  # all of a cluster's lives; keeps a whole digest under MAX_MESSAGE_BYTES
MAX_MEMBERS = 128
MAX_HOST_BYTES = 253
MAX_CLUSTER_BYTES = 255
ID_BYTES = 16  # node, boot and incarnation: 128 random bits

MAX_MESSAGE_BYTES = 256 * 1024  # what a receiver takes
MAX_FRAME_BYTES = 1024 * 1024  # of a log or a checkpoint

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def valid_name(name: str) -> bool:
    """Whether a counter may be called that: 1 to 255 bytes of UTF-8, no control characters."""
    if not name or len(name) > MAX_NAME_BYTES or _CONTROL.search(name):
        return False
    try:
        return name.isascii() or len(name.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


MAX_ASKED = 32  # members that a node asks for their config at a time, for all lists that are being posted
