"""Directories that operators replace, in the cases about which the product makes a promise."""

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
    """Replace the directory of a machine, unless that makes a case without a promise.

    There are two such cases. One is that of `only_outside`. The other is that no incarnation is left: an empty
    directory begins one in any case.

    Args:
        nemesis: the nemesis.
        host: the machine; its node is down.
        copy: an older copy of its directory; without it the machine gets an empty directory.

    Returns:
        Whether the directory was replaced; if not, nothing has changed.
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
    """Whether only nodes outside the config know what a member's directory has forgotten of its present incarnation.

    Then no member can tell that member, so it may go on under the incarnation. docs/guarantees.md leaves that case out.
    These cases are allowed:

    - A member, stopped or not, knows as much.
    - The incarnation is retired, so that its cells are never raised again.
    - No node knows more. Then increments are lost, and the laws account for that.

    Args:
        members: the disks of the members, each with what would be durable on it.
        others: the disks of nodes outside the config.
    """
    inside, outside = [_replica(disk) for disk in members], [_replica(disk) for disk in others]
    return any(
        max(replica.counters.version(incarnation) for replica in inside)
        < max((replica.counters.version(incarnation) for replica in outside), default=0)
        for incarnation in {replica.identity.incarnation for replica in inside}
    )


def _disks_after(nemesis: Nemesis, host: Host, copy: SimDisk | None) -> tuple[list[SimDisk], list[SimDisk]]:
    """The disks of the members, and of the node outside the config, after the directory was replaced."""
    members, others = list[SimDisk](), list[SimDisk]()
    for other in nemesis.cluster.hosts:
        disk = copy if other is host else other.disk
        if disk is not None:
            (others if other is nemesis.twin else members).append(disk)
    return members, others


def _replica(disk: SimDisk) -> Replica:
    """The replica that a start would make of the durable files; None without a log, or if its head has rotted."""
    identity = Identity(bytes(16), bytes(16))
    segments = {name: data for name, data in disk.durable().items() if name.endswith(SUFFIX)}
    with suppress(ValueError):
        header = decode_header(segments[min(segments)])  # without segments, min raises a ValueError too
        identity = Identity(header.node, header.incarnation)
    replica = Replica(identity, 1000)
    for batch in LogReader(disk).news():
        replica.apply(batch)
    return replica
