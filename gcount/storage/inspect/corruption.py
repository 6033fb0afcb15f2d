"""What a survey of a data directory can find."""

import msgspec

from gcount.core.format.checkpoint_salvage import CheckpointSalvage
from gcount.core.format.log_records import Header

DAMAGED_SUFFIX = ".damaged"  # a repair appends it to the names of damaged files, and keeps them


class Corruption(msgspec.Struct):
    """One place at which a file is damaged.

    Args:
        file: the path of the file.
        offset: where in the file the damage begins, in bytes.
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
        sequence: the number of the segment.
        source: the name of the file that was read; None when there is none.
        header: None when it can't be read.
        first: the number of the first batch.
        size: the size of the file, in bytes.
        whole: how many whole batches it has.
        corruption: the damage; None when there is none.
        torn: what an interrupted write, or one that is under way, left at the end; None when nothing.
    """

    sequence: int
    source: str | None
    header: Header | None
    first: int
    size: int = 0
    whole: int = 0
    corruption: Corruption | None = None
    torn: Corruption | None = None


class Checkpoint(msgspec.Struct):
    """What was found of the newest checkpoint.

    Args:
        sequence: the first segment that it does not cover.
        source: the name of the file that was read.
        size: the size of the file, in bytes.
        corruption: the damage; None when there is none.
        salvage: what is left of a damaged one; else None.
    """

    sequence: int
    source: str
    size: int = 0
    corruption: Corruption | None = None
    salvage: CheckpointSalvage | None = None
