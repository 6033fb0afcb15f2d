"""The statistics of a node at one instant, for `/status`, `/metrics` and the INFO command of Redis."""

from collections.abc import Mapping
from dataclasses import dataclass

from gcount.cluster.consistent_reads import ReadStatistics
from gcount.cluster.links.peers import PeerStatistics
from gcount.cluster.settling import IdStatistics
from gcount.storage.checkpoints import CheckpointStatistics
from gcount.storage.log import LogStatistics


@dataclass(frozen=True)
class ServingStatistics:
    """The statistics that exist once the start is over.

    Args:
        node: the node id.
        incarnation: the present incarnation.
        version: the version of that incarnation.
        counters: the number of counters.
        incarnations: the number of incarnations known.
        incarnations_limit: a node begins no new incarnation when it knows so many.
        forks: incarnations with two histories, each with the version from which on they differ.
        peers: the members that it dials, its own entries included.
        reads: the consistent reads.
        ids: the increments with ids.
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
    ids: IdStatistics


@dataclass(frozen=True)
class NodeStatistics:
    """The statistics of a node.

    Args:
        now: the instant, in seconds of trio's clock.
        uptime: seconds since the node was started.
        not_ready: why the node can't take increments; None when it can.
        log: the log.
        checkpoint: the newest checkpoint.
        serving: the rest; None until the start is over.
    """

    now: float
    uptime: float
    not_ready: str | None
    log: LogStatistics
    checkpoint: CheckpointStatistics
    serving: ServingStatistics | None
