"""What a look at a data directory can find."""

import msgspec

from gcount.core.format.checkpoint_salvage import CheckpointSalvage
from gcount.core.format.log_records import Header

ASIDE = ".damaged"  # behind a file's name: what it was before a repair


class Corruption(msgspec.Struct):
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
    flaw: Corruption | None = None
    torn: Corruption | None = None


class Checkpoint(msgspec.Struct):
    """What was found of the newest checkpoint.

    Args:
        sequence: the first segment that it does not cover.
        source: the file that was read.
        size: of the file, in bytes.
        flaw: None when all of it is whole.
        remains: of one that is damaged.
    """

    sequence: int
    source: str
    size: int = 0
    flaw: Corruption | None = None
    remains: CheckpointSalvage | None = None
