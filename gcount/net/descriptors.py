"""How the descriptors of the process are shared out, so that whoever takes too many takes none from the log.

What the node itself may need at once is counted here and kept free; clients get the rest. Where that is too little for
both, each gets half: the node then dials fewer members at a time, as a client it serves or a link it takes is worth no
less.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from dataclasses import dataclass
from typing import Final

import structlog

from gcount.core.limits import MAX_ASKED, MAX_MEMBERS

# Standard streams 3; trio's poll 1, and the two pairs of sockets that wake it 4; the reactor's poll 1.
_LOOP: Final = 9
# The lock, the live segment and the next one, a checkpoint being written, a file being read; the directory, which each
# of two threads may be syncing or listing; and two to spare.
_STORAGE: Final = 9
# Of each address that is listened on: the listener, and a connection that was accepted and not counted yet.
_LISTENING: Final = 2
# Whatever a library opens for a moment: a module, a certificate, a random source, a traceback's source.
_SPARE: Final = 8
# A thread that looks a name up: a socket for each of up to three name servers, and a file or a socket beside them.
_LOOKUP: Final = 4
MAX_LOOKUPS: Final = 16  # at a time
# One for each member, one for each that was removed and is still dialled, and those that are asked for their config. A
# dial has one socket at a time, which becomes the link's.
MAX_DIALS: Final = 2 * MAX_MEMBERS + MAX_ASKED
MAX_LINKS: Final = 2 * MAX_MEMBERS  # accepted; the members, and as many that were members or start anew
FEW: Final = 1000  # connections; a limit that leaves fewer is worth a line in the log

# What is dialled and accepted follows from the limits of the protocol; the sum fits into the least that systems grant.
assert _LOOP + _STORAGE + _LISTENING + _SPARE + MAX_LOOKUPS * _LOOKUP + MAX_DIALS + MAX_LINKS < 1024

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Shares:
    """What may be open at a time.

    Attributes:
        connections: accepted ones, links among them.
        links: accepted links.
        dials: links to others, and dials under way.
        lookups: of names.
        wanted: a limit of open files with which nothing would be less than it could.
    """

    connections: int
    links: int
    dials: int
    lookups: int
    wanted: int


def share_out(limit: int, connections: int, listeners: int = 1) -> Shares:
    """Share out the descriptors of a process.

    Args:
        limit: how many it may have.
        connections: how many the operator wants to accept at most.
        listeners: how many addresses it listens on.
    """
    own = _LOOP + _STORAGE + _SPARE + _LISTENING * listeners
    outward = MAX_LOOKUPS * _LOOKUP + MAX_DIALS
    free = max(0, limit - own)
    reserved = min(outward, free // 2)
    accepted = max(1, min(connections, free - reserved))
    lookups = max(1, min(MAX_LOOKUPS, reserved // 4 // _LOOKUP))
    return Shares(
        connections=accepted,
        links=max(1, min(MAX_LINKS, accepted // 2)),  # nothing displaces them, and clients are to have some, too
        dials=max(1, min(MAX_DIALS, reserved - lookups * _LOOKUP)),
        lookups=lookups,
        wanted=own + outward + connections,
    )


def raise_limit() -> int:
    """Raise this process's soft limit of open files to its hard limit, and say what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name a hard limit that they do not grant; the soft one then stays as it is.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def shares_of_process(connections: int, listeners: int) -> Shares:
    """Share out this process's descriptors, and warn the operator when they are few.

    Args:
        connections: how many the operator wants to accept at most.
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
