"""The live segment: the one file to which the log appends.

log.py explains the order of its writes and syncs. Each call here may block on the disk.
"""

from gcount.errors import DiskFailed, NotInPlace
from gcount.storage.disk import SHORTAGES, Disk, File, sync_or_fail

UNFINISHED = ".new"  # ends the name of a file until its content is durable


class LiveSegment:
    """The live segment of one log.

    Args:
        disk: the directory.

    Attributes:
        size: the size of the segment up to the end of its last batch, in bytes.
    """

    def __init__(self, disk: Disk) -> None:
        self.size = 0
        self._disk = disk
        self._name = ""
        self._file: File | None = None

    def put(self, name: str, data: bytes) -> None:
        """Make a whole file durable under a segment's name; it is the live segment from then on.

        Args:
            name: the name of the segment.
            data: all its bytes so far.

        Raises:
            OSError: the file can't be written. The segment that was live still is.
            DiskFailed: a sync failed. The process has to end.
        """
        fresh = self._disk.create(name + UNFINISHED)
        try:
            fresh.write(data)
            sync_or_fail(fresh.sync)
            self._disk.rename(name + UNFINISHED, name)
        except OSError:
            fresh.close()
            self._disk.remove(name + UNFINISHED)
            raise
        sync_or_fail(self._disk.sync_names)  # before anything is appended: the name must not be lost with a batch in it
        self.close()
        self._file, self._name, self.size = fresh, name, len(data)

    def append(self, data: bytes) -> None:
        """Write a batch and sync it.

        Raises:
            OSError: something in `SHORTAGES` was lacking. The file is as it was before.
            NotInPlace: the segment is no longer the file at its path.
            DiskFailed: the sync failed, or a partial write could not be cut back.
        """
        file = self._opened()
        try:
            file.write(data)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            self._cut_back(file)  # before anything else is written
            raise
        sync_or_fail(file.sync)
        self.size += len(data)
        self.look()  # after the sync: only then it is sure that the batch is in the file that the next start will read

    def look(self) -> None:
        """Check that the segment is still the file at its path. Raises as `Log.look` does."""
        file = self._opened()
        try:
            in_place = self._disk.has_in_place(self._name, file)
        except OSError as error:  # no kind of error may refuse the batch, which is synced already
            raise DiskFailed(
                f"{self._disk.describe(self._name)} can't be looked at: {error.strerror}; "
                "the next start recovers what was acknowledged"
            ) from error
        if not in_place:
            raise NotInPlace(self._disk.describe(self._name))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> File:
        if self._file is None:
            raise DiskFailed("the log is closed")
        return self._file

    def _cut_back(self, file: File) -> None:
        """Cut a partial write back. All that is written behind it would be unreadable."""
        try:
            file.truncate(self.size)
            file.sync()
        except OSError as error:
            raise DiskFailed(
                f"a partial write could not be cut back: {error.strerror}; the next start does it"
            ) from error
