"""A survey of a data directory, which changes nothing: what is whole in it, what is damaged, what is lost.

A start stops at the first damage; a survey goes on behind it. It may run while a node writes to the directory: a
segment gets its name only when its header is whole, and what is being appended looks like a torn tail.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import inf

from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.checkpoint_salvage import CheckpointSalvage
from gcount.core.format.log_records import CHECKPOINT_MAGIC, MAGIC, Scan, decode_header, find_batches, is_newer_format
from gcount.core.limits import ID_BYTES
from gcount.core.state.batch import Batch
from gcount.core.state.identity import Identity, IdentityHistory
from gcount.core.state.replica import Replica
from gcount.errors import Busy
from gcount.storage import checkpoints
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.disk import Directory
from gcount.storage.inspect.contents import Contents, reach_of
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX, Checkpoint, Corruption, Segment
from gcount.storage.log import SUFFIX, Base, segment_name, sequence_of

MAX_MISSING = 1000  # segments in a row; a file whose number is further away does not belong to this log
MISPLACED = "Put it in its place, or move it out of the directory"
LOOKS = 10  # attempts to read a directory whose files come and go
SEGMENT_BATCHES = 1_000_000  # more than fit into one segment; a batch whose number is further away is not of this log


class Survey:
    """One walk over a data directory; see `survey`.

    Args:
        directory: the directory.
        needless: damaged checkpoints to leave out; see `Contents`.
    """

    def __init__(self, directory: Directory, needless: Sequence[Checkpoint] = ()) -> None:
        self._directory = directory
        self._needless = needless
        self._names = directory.names()
        self._strays = [name for name in self._names if name.endswith(SUFFIX) and sequence_of(name) is None]
        self._segments: list[Segment] = []
        self._identities = IdentityHistory()
        self._replica = _blank()
        self._base = Base()
        self._contradictions: list[str] = []
        self._next_batch = 1
        self._headless = 1  # segments in a row whose first batch is not known

    def walk(self) -> Contents:
        """Read each file, in the order of the log."""
        checkpoint = self._load()
        first = self._base.sequence
        self._next_batch = max(1, self._base.first_batch)
        self._headless = 1 if self._base.first_batch else first
        last = self._last_segment(first, checkpoint)
        for sequence in range(first, last + 1):
            self._look(sequence, live=sequence == last)
        self._reach()
        return Contents(
            self._directory,
            self._needless,
            checkpoint,
            self._base,
            self._segments,
            self._strays,
            self._contradictions,
            self._identities,
            self._replica,
            self._next_batch,
        )

    def _last_segment(self, first: int, checkpoint: Checkpoint | None) -> int:
        """The number of the last segment; 0 when the files with numbers are too far apart to be one log."""
        numbers = [number for name in self._names if (number := sequence_of(name)) and number >= first]
        last = max(numbers, default=first if checkpoint else 0)
        if last - first < len(numbers) + MAX_MISSING:
            return last
        self._strays = [name for name in self._names if name.endswith(SUFFIX)]
        file = self._directory.describe(self._strays[-1])
        self._contradictions.append(f"{file}: too many segments before it are missing. {MISPLACED}")
        return 0

    def _load(self) -> Checkpoint | None:
        """The newest checkpoint, at which the log begins; None when there is none."""
        suffix, below = checkpoints.SUFFIX, min((found.sequence for found in self._needless), default=inf)
        here = {name: sequence_of(name.partition(DAMAGED_SUFFIX)[0], suffix) or 0 for name in self._names}
        sequence = max((number for number in here.values() if number < below), default=0)
        if sequence == 0:
            return None
        name = checkpoint_name(sequence)
        source = self._source(name) or name
        found = Checkpoint(sequence, source)
        reader, restore = Reader(), Restore(self._replica)
        data = self._directory.fetch(source)
        found.size = len(data)
        try:
            for record in reader.feed(data, last=True):
                restore.take(record)
            restore.finish()
            if reader.header is None or reader.header.sequence != sequence:
                raise ValueError("its header belongs to another file")
        except ValueError as error:
            found.corruption = Corruption(self._directory.describe(source), reader.offset, str(error))
            if is_newer_format(data):
                self._contradictions.append(f"{found.corruption.file}: {error}")
        if source != name:
            reason = f"the checkpoint is missing; {source} is what an interrupted repair left of it"
            found.corruption = Corruption(self._directory.describe(name), 0, reason)
        if found.corruption is None and reader.header is not None:
            self._base = Base(sequence, reader.header.first_batch, self._replica.next_batch)
            self._identities.found(self._replica.identity)
        else:
            self._salvage(found, data)
        return found

    def _salvage(self, found: Checkpoint, data: bytes) -> None:
        """Restore the replica from what is left of a damaged checkpoint, and of all that it covers."""
        self._replica = _blank()
        found.salvage = salvage = CheckpointSalvage(data)
        salvage.covered = list(self._covered(found.sequence))
        salvage.fill(self._replica)
        header = salvage.header
        if header is not None and header.sequence != found.sequence:
            file = self._directory.describe(found.source)
            self._contradictions.append(f"{file}: its header belongs to another file. {MISPLACED}")
        self._base = Base(found.sequence, header.first_batch if header else 0, salvage.next_batch)
        if salvage.identity is not None:
            self._identities.found(salvage.identity)

    def _covered(self, below: int) -> Iterator[Batch]:
        """The batches that a crash has left in older files, which a damaged checkpoint covers, the oldest first."""
        for name in self._names:  # sorted, so a checkpoint comes before the segment of its number
            segment, checkpoint = sequence_of(name), sequence_of(name, checkpoints.SUFFIX)
            if (segment or checkpoint or below) >= below:
                continue
            data = self._directory.fetch(name)
            with suppress(ValueError):
                header = decode_header(data, CHECKPOINT_MAGIC if checkpoint else MAGIC)
                if header.sequence != (segment or checkpoint):
                    continue  # the file does not belong to this log
                self._identities.found(Identity(header.node, header.incarnation))
            for batch in [CheckpointSalvage(data).batch()] if checkpoint else find_batches(data):
                if batch.identity is not None:
                    self._identities.found(batch.identity)
                yield batch

    def _reach(self) -> None:
        """Note a damage if the log ends before the batch that it had reached when the checkpoint was made."""
        reached = max(self._base.next_batch, reach_of(self._needless))
        lost = reached - self._next_batch
        if lost > 0 and self._segments:
            live = self._segments[-1]
            file = self._directory.describe(segment_name(live.sequence))
            offset = live.torn.offset if live.torn else live.size
            live.corruption = live.corruption or Corruption(
                file, offset, "the log ends before what the checkpoint holds"
            )
            live.corruption.lost += lost
            live.torn = None
            self._next_batch = reached

    def _look(self, sequence: int, *, live: bool) -> None:
        name = segment_name(sequence)
        found = Segment(sequence, self._source(name), None, self._next_batch)
        self._segments.append(found)
        data = b"" if found.source is None else self._directory.fetch(found.source)
        found.size = len(data)
        if found.source != name:
            copy = f"; {found.source} is what an interrupted repair left of it" if found.source else ""
            found.corruption = Corruption(self._directory.describe(name), 0, f"the segment is missing{copy}")
        self._judge_header(found, data)
        if found.header is not None:
            self._join_on(found.header.first_batch)
            found.first = self._next_batch
            self._identities.found(Identity(found.header.node, found.header.incarnation))
        self._read(found, data, live=live)
        self._headless = 1 if found.header or found.whole else self._headless + 1

    def _source(self, name: str) -> str | None:
        """The name under which a file is found: its own, or that of the copy that an interrupted repair has left."""
        copies = [copy for copy in self._names if copy.startswith(name + DAMAGED_SUFFIX)]
        newest = max(copies, key=lambda copy: (len(copy), copy), default=None)
        return name if name in self._names else newest

    def _judge_header(self, found: Segment, data: bytes) -> None:
        if found.source is None:
            return
        file, reason = self._directory.describe(found.source), ""
        try:
            header = decode_header(data)
        except ValueError as error:
            found.corruption = found.corruption or Corruption(file, 0, str(error))
            if is_newer_format(data):
                self._contradictions.append(f"{file}: {error}")
            return
        if header.sequence != found.sequence:
            reason = f"it is segment {header.sequence} by its header"
        elif header.first_batch < self._next_batch or (
            len(self._segments) == 1 and self._base.first_batch not in (0, header.first_batch)
        ):
            reason = f"it begins at batch {header.first_batch}, but batch {self._next_batch} is due"
        if reason:
            found.corruption = found.corruption or Corruption(file, 0, reason)
            self._contradictions.append(f"{file}: {reason}. {MISPLACED}")
        else:
            found.header = header

    def _join_on(self, first: int) -> None:
        """Note what is missing at the end of the segment before, as the header of this one says its first batch."""
        lost = first - self._next_batch
        if lost and len(self._segments) > 1:
            before = self._segments[-2]
            if before.corruption is None:
                file = self._directory.describe(segment_name(before.sequence))
                before.corruption = Corruption(file, before.size, "the segment is cut off")
            before.corruption.lost += lost
        self._next_batch = first

    def _read(self, found: Segment, data: bytes, *, live: bool) -> None:
        scan = Scan(data, self._next_batch)
        for batch in scan:
            self._keep(found, batch)
        damage = scan.damage
        if damage is not None and found.source is not None:
            corruption = Corruption(self._directory.describe(found.source), damage.offset, damage.reason)
            if live and damage.torn and found.corruption is None:
                found.torn = corruption
            else:
                found.corruption = found.corruption or corruption
        if found.corruption is None or self._contradictions:
            return
        furthest = self._next_batch + SEGMENT_BATCHES * self._headless
        for batch in find_batches(data):
            if self._next_batch <= batch.number < furthest:
                found.corruption.lost += batch.number - self._next_batch
                self._keep(found, batch)

    def _keep(self, found: Segment, batch: Batch) -> None:
        if batch.identity is not None:
            self._identities.found(batch.identity)
        self._replica.apply(batch)
        self._next_batch = batch.number + 1
        found.whole += 1


def holds_log(directory: Directory) -> bool:
    """Whether any file of a directory is named like a segment or a checkpoint."""
    return any(sequence_of(name) or sequence_of(name, checkpoints.SUFFIX) for name in directory.names())


def _blank() -> Replica:
    return Replica(Identity(bytes(ID_BYTES), bytes(ID_BYTES)), 0)


def survey(directory: Directory) -> Contents:
    """Survey a data directory, which may be that of a running node.

    Raises:
        Unreadable: a file can't be read.
        Busy: a node there renames and removes files faster than they can be read.
        OSError: the directory can't be read.
    """
    found = _look(directory)
    # A node that starts or cuts a segment back at this moment may make files contradict each other for an instant.
    return _look(directory) if found.corruptions else found


def _look(directory: Directory) -> Contents:
    for _ in range(LOOKS):
        with suppress(FileNotFoundError):  # renamed or removed meanwhile
            return _with_an_older_checkpoint(directory, Survey(directory).walk())
    raise Busy("the node that runs in this directory replaces files faster than they can be checked. Try again")


def _with_an_older_checkpoint(directory: Directory, found: Contents) -> Contents:
    """The same, or a survey that begins with an older checkpoint, if the newest one is damaged and not needed."""
    older = found
    while not found.contradictions and older.checkpoint is not None and older.checkpoint.corruption:
        older = Survey(directory, [*older.needless, older.checkpoint]).walk()
    if not older.needless or not older.serves:
        return found
    _suspect_tail(older.segments[-1])
    return older


def _suspect_tail(live: Segment) -> None:
    """Take a torn tail for rot. A checkpoint has rotted, so the tail may have, and then acknowledged data is lost."""
    live.corruption, live.torn = live.corruption or live.torn, None
