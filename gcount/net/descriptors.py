"""How the file descriptors of the process are shared out, so that clients can never take those that the log needs.

The node reserves the descriptors that it may need itself at one time, and clients get the rest. If there are too few
for both, each side gets half. The node then dials fewer members at a time, because a client that it serves and a link
that it accepts are worth as much as a link that it dials.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from dataclasses import dataclass
from typing import Final

import structlog

from gcount.core.limits import MAX_ASKED, MAX_MEMBERS

# The standard streams take 3, trio's poll 1, the two pairs of sockets that wake it 4, and the reactor's poll 1.
_LOOP: Final = 9
# One each for: the lock, the live segment, the next segment, a checkpoint that is written, and a file that is read. Two
# for the directory, which two threads may sync or list at the same time. Two are spare.
_STORAGE: Final = 9
# For each listen address: the listener, and a connection that was accepted and is not counted yet.
_LISTENING: Final = 2
# For anything that a library opens for a moment: a module, a certificate, a random source, the source of a traceback.
_SPARE: Final = 8
# For a thread that looks up a name: a socket for each of up to three name servers, and one more file or socket.
_LOOKUP: Final = 4
MAX_LOOKUPS: Final = 16  # at a time
# One for each member, one for each former member that is still dialled, and one for each address that is asked for its
# config. A dial has one socket at a time, and the link keeps that socket.
MAX_DIALS: Final = 2 * MAX_MEMBERS + MAX_ASKED
MAX_LINKS: Final = 2 * MAX_MEMBERS  # accepted ones: of the members, and of as many nodes that were members or restart
FEW: Final = 1000  # connections; if the limit leaves fewer, the log has a warning

# The limits of the protocol decide how many links are dialled and accepted. The sum has to fit into 1024, the lowest
# limit that systems usually set.
_OWN: Final = _LOOP + _STORAGE + _LISTENING + _SPARE + MAX_LOOKUPS * _LOOKUP + MAX_DIALS + MAX_LINKS
assert _OWN < 1024, "the node's own descriptors leave some for clients"

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Shares:
    """How much may be open at a time.

    Attributes:
        connections: accepted connections, links included.
        links: accepted links.
        dials: dialled links, and dials under way.
        lookups: lookups of names.
        wanted: the limit of open files that would be enough for all of it.
    """

    connections: int
    links: int
    dials: int
    lookups: int
    wanted: int


def share_out(limit: int, connections: int, listeners: int = 1) -> Shares:
    """Share out the descriptors of a process.

    Args:
        limit: how many descriptors the process may have.
        connections: the most connections that the operator wants to accept.
        listeners: how many addresses the node listens on.
    """
    own = _LOOP + _STORAGE + _SPARE + _LISTENING * listeners
    outward = MAX_LOOKUPS * _LOOKUP + MAX_DIALS
    free = max(0, limit - own)
    reserved = min(outward, free // 2)
    accepted = max(1, min(connections, free - reserved))
    lookups = max(1, min(MAX_LOOKUPS, reserved // 4 // _LOOKUP))
    return Shares(
        connections=accepted,
        links=max(1, min(MAX_LINKS, accepted // 2)),  # half at most: links are never displaced, and clients need some
        dials=max(1, min(MAX_DIALS, reserved - lookups * _LOOKUP)),
        lookups=lookups,
        wanted=own + outward + connections,
    )


def raise_limit() -> int:
    """Raise this process's soft limit of open files to its hard limit.

    Returns:
        The limit that is in force now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems report a hard limit that they do not grant. The soft limit then stays as it is.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def shares_of_process(connections: int, listeners: int) -> Shares:
    """Share out this process's descriptors, and log a warning if they are few.

    Args:
        connections: the most connections that the operator wants to accept.
        listeners: how many addresses the node listens on.
    """
    limit = raise_limit()
    shares = share_out(limit, connections, listeners)
    if shares.connections < min(connections, FEW):
        logger.warning(
            "open-file limit is low",
            limit=limit,
            connections=shares.connections,
            dials=shares.dials,
            remedy=f"raise the hard limit to {shares.wanted}: ulimit -n, or LimitNOFILE= of a systemd unit",
        )
    return shares
