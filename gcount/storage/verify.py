"""A look at a data directory that changes nothing: what is whole in it, what is damaged, what is lost.

It sees more than a start does: a start stops at the first damage, this goes on behind it. It may look while a node
writes: a segment gets its name only when its head is whole, and what is being appended looks like a torn tail.
"""

from collections.abc import Callable

import msgspec

from gcount.core.identity import Lives
from gcount.core.limits import ID_BYTES
from gcount.core.records import Batch, Header, Identity, Scan, decode_header, find_batches, is_newer_format
from gcount.core.replica import Replica
from gcount.storage.disk import Directory
from gcount.storage.log import SUFFIX, segment_name, sequence_of

ASIDE = ".damaged"  # behind a segment's name: what it was before a repair
MAX_MISSING = 1000  # segments; a name that is further away has come here in another way
SEGMENT_BATCHES = 1_000_000  # more than fit into one segment; a found number that is further away is none of ours


class Flaw(msgspec.Struct):
    """One damage.

    Args:
        file: the path of the file.
        offset: where in the file it begins, in bytes.
        reason: what is wrong there.
        lost: how many batches can't be read because of it.
    """

    file: str
    offset: int
    reason: str
    lost: int = 0


class Segment(msgspec.Struct):
    """What was found of one segment.

    Args:
        sequence: its number.
        source: the file that was read; None when there is none.
        header: None when it can't be read.
        first: the number of its first batch.
        size: of the file, in bytes.
        whole: how many whole batches it has.
        flaw: None when all of it is whole.
        torn: what a write that was interrupted, or is under way, left at its end.
    """

    sequence: int
    source: str | None
    header: Header | None
    first: int
    size: int = 0
    whole: int = 0
    flaw: Flaw | None = None
    torn: Flaw | None = None


class Survey:
    """What is in a data directory; made by `survey`.

    `replica` is what a start makes of all that is whole, after a repair if one is needed.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._names = directory.names()
        self.strays = [name for name in self._names if name.endswith(SUFFIX) and sequence_of(name) is None]
        self.segments: list[Segment] = []
        self.lives = Lives()
        self.replica = Replica(Identity(bytes(ID_BYTES), bytes(ID_BYTES)), 0)
        self.next_batch = 1
        self.contradictions: list[str] = []  # what rot does not explain
        self._headless = 1  # segments in a row whose first batch is not known
        numbers = [number for name in self._names if (number := sequence_of(name))]
        last = max(numbers, default=0)
        if last > len(numbers) + MAX_MISSING:
            last = 0
            self.strays = [name for name in self._names if name.endswith(SUFFIX)]
            self.contradictions.append(
                f"{directory.describe(self.strays[-1])}: too many segments before it are missing"
            )
        for sequence in range(1, last + 1):
            self._look(sequence, live=sequence == last)

    @property
    def flaws(self) -> list[Flaw]:
        """All damage, in the order of the log."""
        strays = [Flaw(self._directory.describe(name), 0, "no segment of this log") for name in self.strays]
        return [segment.flaw for segment in self.segments if segment.flaw] + strays

    @property
    def torn(self) -> Flaw | None:
        """What an interrupted write left at the end of the live segment; the next start cuts it."""
        return self.segments[-1].torn if self.segments else None

    @property
    def counters(self) -> int:
        """How many counters there are, those that are kept aside included."""
        joined = self.replica.counters
        return len(joined) + sum(name not in joined for name in self.replica.salvage.names())

    @property
    def incarnations(self) -> int:
        """How many incarnations are known, those that are kept aside included."""
        return len({*self.replica.counters.digest(), *self.replica.salvage.incarnations()})

    @property
    def whole(self) -> int:
        """How many whole batches there are."""
        return sum(segment.whole for segment in self.segments)

    @property
    def lost(self) -> int:
        """How many batches can't be read."""
        return sum(flaw.lost for flaw in self.flaws)

    @property
    def size(self) -> int:
        """The size of all segments, in bytes."""
        return sum(segment.size for segment in self.segments)

    def _look(self, sequence: int, *, live: bool) -> None:
        name = segment_name(sequence)
        found = Segment(sequence, self._source(name), None, self.next_batch)
        self.segments.append(found)
        data = b"" if found.source is None else self._directory.read(found.source)
        found.size = len(data)
        if found.source != name:
            copy = f"; {found.source} is what an interrupted repair left of it" if found.source else ""
            found.flaw = Flaw(self._directory.describe(name), 0, f"the segment is missing{copy}")
        self._judge_header(found, data)
        if found.header is not None:
            self._join_on(found.header.first_batch)
            found.first = self.next_batch
            self.lives.met(Identity(found.header.node, found.header.incarnation))
        self._read(found, data, live=live)
        self._headless = 1 if found.header or found.whole else self._headless + 1

    def _source(self, name: str) -> str | None:
        """The segment itself; else what it was before a repair that was interrupted."""
        copies = [copy for copy in self._names if copy.startswith(name + ASIDE)]
        newest = max(copies, key=lambda copy: (len(copy), copy), default=None)
        return name if name in self._names else newest

    def _judge_header(self, found: Segment, data: bytes) -> None:
        if found.source is None:
            return
        file, reason = self._directory.describe(found.source), ""
        try:
            header = decode_header(data)
        except ValueError as error:
            found.flaw = found.flaw or Flaw(file, 0, str(error))
            if is_newer_format(data):
                self.contradictions.append(f"{file}: {error}")
            return
        if header.sequence != found.sequence:
            reason = f"it is segment {header.sequence} by its header"
        elif header.first_batch < self.next_batch or (found.sequence == 1 and header.first_batch != 1):
            reason = f"it begins at batch {header.first_batch}, but batch {self.next_batch} is due"
        if reason:
            found.flaw = found.flaw or Flaw(file, 0, reason)
            self.contradictions.append(f"{file}: {reason}")
        else:
            found.header = header

    def _join_on(self, first: int) -> None:
        """A segment tells with which batch the one before it must have ended."""
        lost = first - self.next_batch
        if lost and len(self.segments) > 1:
            before = self.segments[-2]
            if before.flaw is None:
                file = self._directory.describe(segment_name(before.sequence))
                before.flaw = Flaw(file, before.size, "the segment is cut off")
            before.flaw.lost += lost
        self.next_batch = first

    def _read(self, found: Segment, data: bytes, *, live: bool) -> None:
        scan = Scan(data, self.next_batch)
        for batch in scan:
            self._keep(found, batch)
        damage = scan.damage
        if damage is not None and found.source is not None:
            flaw = Flaw(self._directory.describe(found.source), damage.offset, damage.reason)
            if live and damage.torn and found.flaw is None:
                found.torn = flaw
            else:
                found.flaw = found.flaw or flaw
        if found.flaw is None or self.contradictions:
            return
        furthest = self.next_batch + SEGMENT_BATCHES * self._headless
        for batch in find_batches(data):
            if self.next_batch <= batch.number < furthest:
                found.flaw.lost += batch.number - self.next_batch
                self._keep(found, batch)

    def _keep(self, found: Segment, batch: Batch) -> None:
        if batch.identity is not None:
            self.lives.met(batch.identity)
        self.replica.recover(batch)
        self.next_batch = batch.number + 1
        found.whole += 1


def holds_log(directory: Directory) -> bool:
    """Whether any file of a directory is named like a segment."""
    return any(sequence_of(name) for name in directory.names())


def survey(directory: Directory) -> Survey:
    """Look at a data directory, also at that of a running node.

    Raises:
        OSError: a file can't be read.
    """
    found = _again(lambda: Survey(directory))
    # A node that starts or cuts back at this very moment may show one thing here and another one there.
    return _again(lambda: Survey(directory)) if found.flaws else found


def _again(look: Callable[[], Survey]) -> Survey:
    try:
        return look()
    except FileNotFoundError:  # renamed meanwhile
        return look()
