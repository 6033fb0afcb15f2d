"""Law: if a node says that some number of others have an increment, that many others have it on their disks.

A machine counts even if its directory was made to forget after the machine had acknowledged the increment: the
acknowledgement can't be taken back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from gcount.core.state.counters import Digest
from tests.simulation.campaign.history import Forgot, History, Repaired, Waited
from tests.simulation.laws.durable_state import DurableState, host_of


def violations(history: History) -> Iterator[str]:
    """Each answer that promised more than the disks hold."""
    state = DurableState()
    before: defaultdict[str, list[Digest]] = defaultdict(list)  # what the former directories of a machine held
    for entry in history.journal:
        if isinstance(entry, Forgot | Repaired):
            before[host_of(entry.line)].append(state.versions[entry.line])
        if not isinstance(entry, Waited):
            state.put(entry)
            continue
        held = defaultdict(list, {host: list(digests) for host, digests in before.items()})
        for line, digest in state.versions.items():
            held[host_of(line)].append(digest)
        own = host_of(entry.line)
        holders = [host for host, digests in held.items() if host != own and _any_has(digests, entry.versions)]
        if len(holders) < entry.holders:
            shown = {who.hex()[:6]: version for who, version in entry.versions.items()}
            yield f"at {entry.time:.4f} {entry.line} said that {entry.holders} others have {shown}: {holders} do"


def _any_has(digests: list[Digest], versions: Digest) -> bool:
    return any(all(digest.get(who, 0) >= version for who, version in versions.items()) for digest in digests)
