"""What operators ask a node: one look for people, gauges for machines."""

from collections.abc import Iterable

import trio

from gcount.node.node import Node
from gcount.observe.metrics import Sample


def status(node: Node) -> dict[str, object]:
    """What an operator wants to know at a glance, ready for JSON."""
    node.require_ready()
    local, now = node.local, trio.current_time()
    replica = local.replica
    return {
        "id": node.settings.node_id,
        "node": replica.identity.node.hex(),
        "incarnation": replica.identity.incarnation.hex(),
        "incarnations_known": len(replica.counters.digest()),
        "incarnations_limit": replica.options.reborn_below,
        "two_histories": [
            {"incarnation": incarnation.hex(), "from_version": version}
            for incarnation, version in local.guard.forks.items()
        ],
        "cluster": node.settings.cluster,
        "listen": node.listens_on,
        "ready": node.not_ready is None,
        "not_ready_because": node.not_ready,
        "uptime_seconds": round(now - node.started, 3),
        "counters": len(replica.counters),
        "version": replica.version,
        "log": {"bytes": node.log.size, "segments": node.log.segments, "free_bytes": node.log.free_bytes()},
        "checkpoint": {"bytes": node.checkpoints.size, "seconds_ago": _age(node)},
        "membership": node.config(),
        "peers": [
            {
                "address": peer.address,
                "state": peer.state,
                "reason": peer.reason or None,
                "last_contact_seconds": None if peer.last_contact is None else round(now - peer.last_contact, 3),
                "unacknowledged_versions": peer.lag(replica.counters),
            }
            for peer in node.peers
            if peer.state != "self"
        ],
    }


def _age(node: Node) -> float | None:
    """How long ago this start made its newest checkpoint, in seconds; None when it made none."""
    made = node.checkpoints.made
    return None if made is None else round(trio.current_time() - made, 3)


def gauges(node: Node) -> Iterable[Sample]:
    """What `/metrics` reads off the node at each scrape."""
    yield "gcount_ready", "Whether the node can take increments.", {}, float(node.not_ready is None)
    yield "gcount_log_bytes", "Size of the log.", {}, node.log.size
    yield "gcount_checkpoint_bytes", "Size of the newest checkpoint.", {}, node.checkpoints.size
    age = _age(node)
    if age is not None:
        yield "gcount_checkpoint_age_seconds", "Time since this start made its newest checkpoint.", {}, age
    yield "gcount_disk_free_bytes", "Room on the data directory's disk.", {}, node.log.free_bytes()
    if not node.recovered:
        return
    counters, limit = node.local.replica.counters, node.local.replica.options.reborn_below
    yield "gcount_counters", "Counters held.", {}, len(counters)
    yield "gcount_incarnations", "Incarnations known.", {}, len(counters.digest())
    yield "gcount_incarnations_limit", "Incarnations beyond which no node begins a new one.", {}, limit
    forks = len(node.local.guard.forks)
    yield "gcount_incarnations_with_two_histories", "Incarnations of which two histories showed.", {}, forks
    peers = [peer for peer in node.peers if peer.state != "self"]
    for peer in peers:
        yield (
            "gcount_link_up",
            "Whether the link to a peer is up.",
            {"peer": peer.address},
            float(bool(peer.pusher)),
        )
    for peer in peers:
        lag = peer.lag(counters)
        if lag is not None:
            yield "gcount_link_lag_versions", "Versions that a peer has not on disk.", {"peer": peer.address}, lag
