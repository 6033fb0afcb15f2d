"""What a node tells of itself at one instant, for `/status`, `/metrics` and Redis' INFO."""

from collections.abc import Mapping
from dataclasses import dataclass

from gcount.cluster.consistent_reads import ReadStatistics
from gcount.cluster.links.peers import PeerStatistics
from gcount.storage.checkpoints import CheckpointStatistics
from gcount.storage.log import LogStatistics


@dataclass(frozen=True)
class ServingStatistics:
    """What there is to tell once the start is over.

    Args:
        node: the node's id.
        incarnation: the present one.
        version: how often it committed increments under that.
        counters: how many it holds.
        incarnations: how many it knows.
        incarnations_limit: no node begins a new one when so many are known.
        forks: incarnations of which two histories showed, each with the version from which on.
        peers: the members that it dials, its own entries included.
        reads: consistent reads.
    """

    node: bytes
    incarnation: bytes
    version: int
    counters: int
    incarnations: int
    incarnations_limit: int
    forks: Mapping[bytes, int]
    peers: tuple[PeerStatistics, ...]
    reads: ReadStatistics


@dataclass(frozen=True)
class NodeStatistics:
    """A node.

    Args:
        now: the instant, in seconds as trio's clock counts them.
        uptime: seconds since it was started.
        not_ready: why it can't take increments; None when it can.
        log: its log.
        checkpoint: its newest checkpoint.
        serving: the rest; None until the start is over.
    """

    now: float
    uptime: float
    not_ready: str | None
    log: LogStatistics
    checkpoint: CheckpointStatistics
    serving: ServingStatistics | None
