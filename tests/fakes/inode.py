"""A file's bytes in memory, and what a crash does to them.

What it promises: a crash leaves the bytes that were synced and have not changed since. Of all bytes from the first
changed one on, chance leaves all, none, a first part, some pages, or some pages with garbage between them.
"""

from __future__ import annotations

from random import Random

PAGE = 512
_OUTCOMES = ("lost", "kept", "prefix", "pages", "garbage")


class Inode:
    """A file's bytes, as a reader sees them and as they are on the disk."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        self.changed_from: int | None = None  # the lowest offset that changed since the last sync
        self.rotten: list[tuple[int, int]] = []  # ranges that a failed sync dropped; until a crash they can be read

    def touch(self, offset: int) -> None:
        self.changed_from = offset if self.changed_from is None else min(self.changed_from, offset)

    def write(self, data: bytes) -> None:
        self.touch(len(self.data))
        self.data += data

    def truncate(self, size: int) -> None:
        self.touch(size)
        del self.data[size:]
        self.rotten = [(start, min(end, size)) for start, end in self.rotten if start < size]

    def sync(self) -> None:
        self.durable = self._image()
        self.changed_from = None

    def rot(self, random: Random) -> None:
        """Fail a sync: pages are dropped as if they were clean, and no later sync writes them (fsyncgate)."""
        if self.changed_from is not None:
            start, self.changed_from = self.changed_from, None
            first = random.randrange(start, len(self.data) + 1)
            self.rotten.append((random.choice((start, first)), len(self.data)))
            self.durable = self._image()

    def crash(self, random: Random) -> None:
        """Lose what the disk does not have, or may not have."""
        outcome = random.choice(_OUTCOMES)
        if self.changed_from is None or outcome == "lost":
            survived = self.durable
        elif outcome == "kept":
            survived = self._image()
        else:
            survived = self._torn(random, outcome)
        self.data = bytearray(survived)
        self.durable = survived
        self.changed_from = None
        self.rotten = []

    def _torn(self, random: Random, outcome: str) -> bytes:
        start = min(self.changed_from or 0, len(self.data))
        image = self._image()[: random.randint(start, len(self.data))]
        if outcome == "prefix":
            return image
        torn = bytearray(image)
        while start < len(torn):
            end = min(len(torn), (start // PAGE + 1) * PAGE)
            if random.random() < 0.5:
                old = self.durable[start:end]
                hole = old + bytes(end - start - len(old))
                torn[start:end] = random.randbytes(end - start) if outcome == "garbage" else hole
            start = end
        return bytes(torn)

    def _image(self) -> bytes:
        image = bytearray(self.data)
        for start, end in self.rotten:
            image[start:end] = bytes(end - start)
        return bytes(image)

    def copy(self) -> Inode:
        """Another file, with the durable bytes of this one."""
        copied = Inode()
        copied.write(self.durable)
        copied.sync()
        return copied
