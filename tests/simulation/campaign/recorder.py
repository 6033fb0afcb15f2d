"""Writes down what the nodes of a run have on their disks, and what they tell each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import trio

from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.log_records import HEADER_BYTES, Scan, decode_header
from gcount.core.protocol import messages
from gcount.core.protocol.counter_views import Told
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.ids import key_of
from gcount.core.state.keyed import Keyed
from gcount.core.state.replica import Replica
from gcount.storage import checkpoints
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.log import SUFFIX, sequence_of
from tests.core.histories import newer_than
from tests.fakes.cluster import Host, SimCluster
from tests.fakes.disk import SimDisk
from tests.simulation.campaign.film import Film
from tests.simulation.campaign.history import Claimed, Forgot, History, Repaired, Shown, Stored


def read_by_a_start(files: dict[str, bytes]) -> list[str]:
    """The names of the files that a start reads: the newest checkpoint, and the segments that it does not cover."""
    first = max((sequence_of(name, checkpoints.SUFFIX) or 1 for name in files), default=1)
    segments = [name for name in files if (sequence_of(name) or 0) >= first]
    return sorted({checkpoint_name(first)} & files.keys()) + sorted(segments)


def checkpointed(files: dict[str, bytes]) -> Replica | None:
    """The content of the newest checkpoint; None if there is none, or if it has rotted."""
    name = next(iter(read_by_a_start(files)), "")
    if not name.endswith(checkpoints.SUFFIX):
        return None
    replica = Replica(Identity(bytes(16), bytes(16)), 0)
    try:
        reader, restore = Reader(), Restore(replica)
        for record in reader.feed(files[name], last=True):
            restore.take(record)
        restore.finish()
    except ValueError:
        return None
    return replica


def _names_of(delta: Delta) -> tuple[str, ...]:
    """The counters of a delta's cells, the keys of its entries, and the columns that it settles."""
    keyed = () if delta.keyed is None else (*delta.keyed.entries, *(who.hex() for who in delta.keyed.settled))
    return (*delta.cells, *keyed)


class LogReader:
    """Reads from a disk what became durable since the last call."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._checkpoint: str | None = None  # the name of the newest checkpoint
        self._places: dict[str, tuple[int, int]] = {}  # segment -> offset, number of the next batch

    def news(self) -> list[Batch]:
        """The batches that are new since the last call. The first content of a directory begins with its checkpoint."""
        files, first = self._disk.durable(), self._checkpoint is None
        made_with = self.later_checkpoint() if first else None
        batches: list[Batch] = []
        if made_with is not None:
            deltas = [*newer_than(made_with.counters, {}), *made_with.detached.deltas()]
            batches.append(Batch(0, deltas, made_with.identity, made_with.membership, made_with.floor))
        news = read_by_a_start(files) if first else sorted(files)
        for name in sorted(files):
            if name.endswith(SUFFIX):
                read = self._read(name, files[name])  # also of a segment that a start leaves out: it is never news
                batches += read if name in news else []
        return batches

    def later_checkpoint(self) -> Replica | None:
        """The content of the newest checkpoint, if it is a new one. All of it was in the log before."""
        files = self._disk.durable()
        name = next(iter(read_by_a_start(files)), "")
        known, self._checkpoint = self._checkpoint, name
        return None if known == name else checkpointed(files)

    def _read(self, name: str, data: bytes) -> list[Batch]:
        try:
            offset, number = self._places.get(name) or (HEADER_BYTES, decode_header(data).first_batch)
        except ValueError:  # it rotted
            return []
        if len(data) <= offset:
            return []
        scan = Scan(bytes(HEADER_BYTES) + data[offset:], number)
        batches = list(scan)
        self._places[name] = offset + scan.end - HEADER_BYTES, scan.next_batch
        return batches


class Recorder:
    """Listens at all disks and links of a cluster.

    Args:
        cluster: the cluster.
        history: the history to write.
        film: the film for people.
    """

    def __init__(self, cluster: SimCluster, history: History, film: Film) -> None:
        self.history = history
        self.film = film
        self._lines: dict[str, tuple[str, int]] = {}
        self._own: dict[str, bytes] = {}  # the incarnation under which each line's node wrote last
        self._asked: dict[tuple[str, int], str] = {}  # the counter of a round, by the asking address and the round
        cluster.network.tap = self._sent
        cluster.network.arrived = self._arrived

    def line(self, address: str) -> str:
        """The present line at an address."""
        return self._lines[address][0]

    def directory(self, host: Host) -> None:
        """Note a new directory of a machine: an empty one, a copy, or another machine's. A new line begins."""
        old, number = self._lines.get(host.address, ("", 0))
        if old:
            self.history.journal.append(Forgot(trio.current_time(), old))
        self._lines[host.address] = f"{host.address}#{number + 1}", number + 1
        self.new_disk(host)

    def repaired(
        self, host: Host, whole: Sequence[Batch], lives: Iterable[bytes], identity: Identity, *, lossless: bool
    ) -> None:
        """Note that a machine's directory rotted and was repaired. Its node does not run yet.

        Args:
            host: the machine.
            whole: the batches that the rot has certainly left.
            lives: the incarnations that the records left name as the node's own.
            identity: the identity under which the node goes on.
            lossless: whether the repair says that nothing is lost, and the node goes on as before.
        """
        old, number = self._lines[host.address]
        new = f"{host.address}#{number + (not lossless)}"
        kept = tuple(LogReader(host.disk).news())
        now = trio.current_time()
        entry = Repaired(now, old, new, tuple(whole), frozenset(lives), kept, identity, lossless)
        self.history.journal.append(entry)
        self.history.repaired = self.history.relayed = True
        self._lines[host.address] = new, number + (not lossless)
        self.new_disk(host)

    def new_disk(self, host: Host) -> None:
        """Follow the present disk of a machine."""
        reader = LogReader(host.disk)
        host.disk.synced = partial(self._synced, host, reader)
        host.disk.stepped = partial(self.film.disk, host.address)
        self._synced(host, reader, found=True)

    def set_clock(self, host: Host, skew: float) -> None:
        """Set the clock of a machine; it is wrong by `skew` seconds then."""
        host.clock_skew, now = skew, trio.current_time()
        self.history.clocks[host.address].append((now, host.clock - now))

    def sample(self, host: Host) -> None:
        """Note what a running node shows to clients."""
        now, line, counters = trio.current_time(), self.line(host.address), host.node.replica.counters
        digest = counters.digest()
        self._claim(host.address, Claimed(now, line, "value", digest))
        if self.history.window:
            names = counters.names(0, len(counters))
            entries = {
                key: {entry.holder: (entry.total, entry.version) for entry in best.all}
                for key, best in counters.entries.items()
            }
            values = dict(zip(names, counters.totals_of(names), strict=True))
            covers = dict(counters.settlements.covers)
            self.history.journal.append(Shown(now, line, values, digest, entries, covers))

    def _synced(self, host: Host, reader: LogReader, *, found: bool = False) -> None:
        for batch in reader.news():
            deltas = tuple(batch.deltas)
            now, line = trio.current_time(), self.line(host.address)
            members = None if batch.membership is None else batch.membership.actors
            own = None if found else self._writer(host, batch)
            stored = Stored(now, line, deltas, batch.identity, batch.number, batch.floor, members, own, batch.needs)
            self.history.journal.append(stored)
            self.film.stored(host.address, batch)
            if batch.membership is not None and batch.membership.actors:
                self.history.configured.setdefault(self.line(host.address), trio.current_time())
        checkpoint = reader.later_checkpoint()
        if checkpoint is not None:
            now, line = trio.current_time(), self.line(host.address)
            deltas, detached = tuple(newer_than(checkpoint.counters, {})), tuple(checkpoint.detached.deltas())
            claim = Claimed(now, line, "checkpoint", {}, deltas, detached=detached, next_batch=checkpoint.next_batch)
            self.history.journal.append(claim)

    def _writer(self, host: Host, batch: Batch) -> bytes | None:
        """The incarnation of the node that wrote a batch. A batch may be durable only after the next start."""
        line = self.line(host.address)
        identity = batch.identity or (host.node.replica.identity if host.running and host.node.recovered else None)
        if identity is not None:
            self._own[line] = identity.incarnation
        return self._own.get(line)

    def _claim(self, address: str, claim: Claimed) -> None:
        if address in self._lines:
            self.history.journal.append(claim)

    def _sent(self, sender: str, receiver: str, data: bytes) -> None:
        message = messages.decode(data)
        self.film.message("sent", sender, receiver, message)
        if sender not in self._lines:
            return  # the sender is no node, so the message is no claim
        now, line = trio.current_time(), self.line(sender)
        match message:
            case messages.Ack(digest=digest) if digest:
                self._claim(sender, Claimed(now, line, "Ack", digest))
            case messages.Hello(digest=digest, floor=floor) | messages.HeartbeatAck(digest=digest, floor=floor) if (
                digest or floor
            ):
                self._claim(sender, Claimed(now, line, type(message).__name__, digest, floor=floor or 0))
            case messages.Push(deltas=deltas):
                self._claim(sender, Claimed(now, line, "Push", {}, tuple(deltas)))
                if self.history.healing:
                    content = tuple((delta.incarnation, delta.upto, _names_of(delta)) for delta in deltas)
                    self.history.pushed[sender, receiver].add(content)
            case messages.ReadCells(round=number, name=name):
                self._asked[sender, number] = name
            case messages.CellsReply(round=number, cells=cells, told=told) if cells or told:
                name = self._asked[receiver, number]
                self._claim(sender, Claimed(now, line, "CellsReply", cells, _deltas_of(told, name), name=name))

    def _arrived(self, sender: str, receiver: str, data: bytes) -> None:
        if self.film.rolling:
            self.film.message("received", receiver, sender, messages.decode(data))


def _deltas_of(told: Told | None, name: str) -> tuple[Delta, ...]:
    """The ids of a counter that an answer tells, as deltas that hold nothing else."""
    deltas = []
    for holder, entries in (told.entries if told else {}).items():
        upto = max((version for _, version in entries.values()), default=0)
        deltas.append(Delta(holder, 0, upto, {}, Keyed({key_of(name, id_): one for id_, one in entries.items()})))
    return tuple(deltas)
