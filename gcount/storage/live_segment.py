"""The live segment: the one file that the log appends to. Its writes and syncs have an order, explained in `log.py`.

Each call may wait for the disk.
"""

from gcount.errors import DiskFailed, NotInPlace
from gcount.storage.disk import SHORTAGES, Disk, File, sync_or_fail

UNFINISHED = ".new"  # behind a file's name, until its content is durable


class LiveSegment:
    """The end of the log.

    Args:
        disk: the directory.

    Attributes:
        size: in bytes, up to the end of the last batch.
    """

    def __init__(self, disk: Disk) -> None:
        self.size = 0
        self._disk = disk
        self._name = ""
        self._file: File | None = None

    def put(self, name: str, data: bytes) -> None:
        """Make a whole file durable under a segment's name, and go on appending to it."""
        fresh = self._disk.create(name + UNFINISHED)
        try:
            fresh.write(data)
            sync_or_fail(fresh.sync)
            self._disk.rename(name + UNFINISHED, name)
        except OSError:  # the segment that was live still is
            fresh.close()
            self._disk.remove(name + UNFINISHED)
            raise
        sync_or_fail(self._disk.sync_names)
        self.close()
        self._file, self._name, self.size = fresh, name, len(data)

    def append(self, data: bytes) -> None:
        """Write a batch and sync it; where there is no room for it, the file is as it was before."""
        file = self._opened()
        try:
            file.write(data)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            self._cut_back(file)
            raise
        sync_or_fail(file.sync)
        self.size += len(data)
        self.look()

    def look(self) -> None:
        """See whether it is still in its place; raises as `Log.look` does."""
        file = self._opened()
        try:
            in_place = self._disk.holds(self._name, file)
        except OSError as error:  # whatever it is: what was synced can't be refused any more
            raise DiskFailed(
                f"{self._disk.describe(self._name)} can't be looked at: {error.strerror}; "
                "the next start recovers what was acknowledged"
            ) from error
        if not in_place:
            raise NotInPlace(self._disk.describe(self._name))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> File:
        if self._file is None:
            raise DiskFailed("the log is closed")
        return self._file

    def _cut_back(self, file: File) -> None:
        """A partial record must not stay, or all that is written behind it would be unreadable."""
        try:
            file.truncate(self.size)
            file.sync()
        except OSError as error:
            raise DiskFailed(
                f"a partial write could not be cut back: {error.strerror}; the next start does it"
            ) from error
