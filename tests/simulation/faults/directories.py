"""Directories put in the place of others by operators, as far as anything is promised of that."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from gcount.core.format.log_records import decode_header
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.storage.log import SUFFIX
from tests.fakes.cluster import Host
from tests.fakes.disk import SimDisk
from tests.simulation.campaign.nemesis import Nemesis
from tests.simulation.campaign.recorder import LogReader


def replace(nemesis: Nemesis, host: Host, copy: SimDisk | None = None) -> bool:
    """A machine gets another directory, unless that leaves what nothing is promised of (see `only_outside`).

    Nor is anything promised beyond the last incarnation: an empty directory begins one in any case.

    Args:
        nemesis: at work.
        host: whose node is down.
        copy: of its directory, of some time ago; an empty directory if there is none.

    Returns:
        Whether it got it; if not, all is as it was.
    """
    if copy is None and nemesis.lives_run_out:
        nemesis.note(f"{host.address} keeps its directory: no member could be told of one more incarnation")
        return False
    if nemesis.twin is not None and only_outside(*_disks_after(nemesis, host, copy)):
        nemesis.note(
            f"{host.address} keeps its directory: only {nemesis.twin.address} would know what a member has lost"
        )
        return False
    if copy is None:
        nemesis.note(f"the directory of {host.address} is lost")
        host.wipe()
    else:
        nemesis.note(f"{host.address} gets back the copy")
        host.put_disk(copy)
    host.disk.latency = nemesis.scenario.latency
    host.disk.background = nemesis.scenario.background
    nemesis.recorder.directory(host)
    nemesis.history.relayed = True
    return True


def only_outside(members: Sequence[SimDisk], others: Sequence[SimDisk]) -> bool:
    """Whether a member's directory has forgotten of its present incarnation what other nodes know, but no member.

    Nobody can tell it to that member, so it may go on under the incarnation; docs/guarantees.md leaves that out. It is
    nothing of the kind if a member knows as much, stopped or not; if the incarnation is a retired one, which is never
    raised again; or if nobody knows more at all: then it is lost, and the laws account for it.

    Args:
        members: the disks of the members, each with what would be durable on it.
        others: those of nodes outside the config.
    """
    inside, outside = [_replica(disk) for disk in members], [_replica(disk) for disk in others]
    return any(
        max(replica.counters.version(incarnation) for replica in inside)
        < max((replica.counters.version(incarnation) for replica in outside), default=0)
        for incarnation in {replica.identity.incarnation for replica in inside}
    )


def _disks_after(nemesis: Nemesis, host: Host, copy: SimDisk | None) -> tuple[list[SimDisk], list[SimDisk]]:
    """Those of the members, and of the node outside the config, once the directory has been replaced."""
    members, others = list[SimDisk](), list[SimDisk]()
    for other in nemesis.cluster.hosts:
        disk = copy if other is host else other.disk
        if disk is not None:
            (others if other is nemesis.twin else members).append(disk)
    return members, others


def _replica(disk: SimDisk) -> Replica:
    """What a start would make of what is durable there; nothing where no log was begun, or its head has rotted."""
    identity = Identity(bytes(16), bytes(16))
    segments = {name: data for name, data in disk.durable().items() if name.endswith(SUFFIX)}
    with suppress(ValueError):
        header = decode_header(segments[min(segments)])  # min: of nothing, too, is a ValueError
        identity = Identity(header.node, header.incarnation)
    replica = Replica(identity, 1000)
    for batch in LogReader(disk).news():
        replica.apply(batch)
    return replica
