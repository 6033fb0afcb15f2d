"""A file's bytes in memory, and what becomes of them at a crash.

What it promises: a crash leaves what was synced, but for the part of it that changed again. Of that and of what follows
it chance leaves all, nothing, a first part, some pages, or some pages with garbage between them.
"""

from __future__ import annotations

from random import Random

PAGE = 512
_OUTCOMES = ("lost", "kept", "prefix", "pages", "garbage")


class Inode:
    """A file's bytes, as a reader sees them and as they are on the platter."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        self.changed_from: int | None = None  # the lowest offset that changed since the last sync
        self.rotten: list[tuple[int, int]] = []  # what a failed sync threw away, though it can still be read

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
        """A sync failed: pages are dropped as if they were clean, and no later sync writes them (fsyncgate)."""
        if self.changed_from is not None:
            start, self.changed_from = self.changed_from, None
            first = random.randrange(start, len(self.data) + 1)
            self.rotten.append((random.choice((start, first)), len(self.data)))
            self.durable = self._image()

    def crash(self, random: Random) -> None:
        """Fall back to what the platter holds, or may hold."""
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
        """Another file that holds what is durable of this one."""
        copied = Inode()
        copied.write(self.durable)
        copied.sync()
        return copied
