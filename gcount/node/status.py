"""The answers for operators: `/status` for people, and gauges for `/metrics`."""

from collections.abc import Iterable

from gcount.cluster.settling import IdStatistics
from gcount.node.node import Node
from gcount.node.statistics import NodeStatistics
from gcount.observe.metrics import Sample
from gcount.version import VERSION


def status(node: Node) -> dict[str, object]:
    """The document of `/status`, ready for JSON. Its keys are promised in docs/api.md."""
    node.require_ready()
    found = node.statistics()
    serving = found.serving
    assert serving is not None, "a node that is ready serves"
    return {
        "gcount_version": VERSION,
        "id": node.settings.node_id,
        "node": serving.node.hex(),
        "incarnation": serving.incarnation.hex(),
        "incarnations_known": serving.incarnations,
        "incarnations_limit": serving.incarnations_limit,
        "two_histories": [
            {"incarnation": incarnation.hex(), "from_version": version}
            for incarnation, version in serving.forks.items()
        ],
        "cluster": node.settings.cluster,
        "listen": node.listens_on,
        "ready": found.not_ready is None,
        "not_ready_because": found.not_ready,
        "uptime_seconds": round(found.uptime, 3),
        "counters": serving.counters,
        "version": serving.version,
        "log": {"bytes": found.log.size, "segments": found.log.segments, "free_bytes": found.log.free_bytes},
        "checkpoint": {"bytes": found.checkpoint.size, "seconds_ago": _age(found)},
        "ids": _ids(serving.ids),
        "membership": node.config(),
        "peers": [
            {
                "address": peer.address,
                "state": peer.state,
                "reason": peer.reason or None,
                "last_contact_seconds": None if peer.last_contact is None else round(found.now - peer.last_contact, 3),
                "unacknowledged_versions": peer.lag,
            }
            for peer in serving.peers
            if peer.state != "self"
        ],
    }


def _ids(ids: IdStatistics) -> dict[str, object]:
    held = ids.held
    return {
        "live": ids.live,
        "limit": ids.limit,
        "retry_window_seconds": ids.window,
        "oldest_seconds": None if ids.oldest is None else round(ids.oldest, 3),
        "floor": ids.floor,
        "floors": dict(ids.floors),
        "held_back_by": None if held is None else held.hold.address,
        "held_back_because": None if held is None else held.hold.reason,
        "held_back_since": None if held is None else held.since,
    }


def _age(found: NodeStatistics) -> float | None:
    """How long ago this process made its newest checkpoint, in seconds; None when it made none."""
    made = found.checkpoint.made
    return None if made is None else round(found.now - made, 3)


def gauges(node: Node) -> Iterable[Sample]:
    """The gauges that `/metrics` computes at each scrape."""
    found = node.statistics()
    yield "gcount_ready", "Whether the node can take increments.", {}, float(found.not_ready is None)
    yield "gcount_log_bytes", "Size of the log.", {}, found.log.size
    yield "gcount_checkpoint_bytes", "Size of the newest checkpoint.", {}, found.checkpoint.size
    age = _age(found)
    if age is not None:
        yield "gcount_checkpoint_age_seconds", "Time since this start made its newest checkpoint.", {}, age
    yield "gcount_disk_free_bytes", "Free space on the data directory's disk.", {}, found.log.free_bytes
    serving = found.serving
    if serving is None:
        return
    yield "gcount_counters", "Counters held.", {}, serving.counters
    yield "gcount_incarnations", "Incarnations known.", {}, serving.incarnations
    limit = serving.incarnations_limit
    yield "gcount_incarnations_limit", "Incarnations beyond which no node begins a new one.", {}, limit
    forks = len(serving.forks)
    yield "gcount_incarnations_with_two_histories", "Incarnations of which two histories showed.", {}, forks
    yield from _id_gauges(serving.ids)
    peers = [peer for peer in serving.peers if peer.state != "self"]
    for peer in peers:
        yield "gcount_link_up", "Whether the link to a peer is up.", {"peer": peer.address}, float(peer.linked)
    for peer in peers:
        if peer.lag is not None:
            yield "gcount_link_lag_versions", "Versions that a peer has not on disk.", {"peer": peer.address}, peer.lag


def _id_gauges(ids: IdStatistics) -> Iterable[Sample]:
    yield "gcount_ids_live", "Ids of increments that are kept, so that each counts once.", {}, ids.live
    yield "gcount_ids_limit", "Ids that the node may keep before it refuses new ones.", {}, ids.limit
    yield "gcount_ids_oldest_seconds", "Age of the oldest of them; 0 without any.", {}, ids.oldest or 0.0
    yield "gcount_id_floor_seconds", "Time up to which the node takes no ids any more.", {}, ids.floor
    for peer, floor in ids.floors.items():
        if floor is not None:
            yield "gcount_peer_id_floor_seconds", "The same of a peer, as it told it.", {"peer": peer}, floor
    yield "gcount_ids_settled_total", "Ids that were settled and dropped.", {}, ids.settled
    yield "gcount_settlements_total", "Settlements that this node has made.", {}, ids.settlements
    words = "For how long settlement has been held back; 0 while it is not."
    yield "gcount_settlement_held_back_seconds", words, {}, ids.held_for
