"""Transactions of Redis clients: commands wait from MULTI to EXEC, which executes all of them with one commit, or none.

A command is understood, and refused should it be wrong, when it is queued: what waits is what it counts and reads. So
EXEC has nothing left to go wrong but limits and the disk, which refuse all of it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

import trio

from gcount.core.state.increments import Add, Peek
from gcount.redis import resp
from gcount.redis.resp import CommandError, Words
from gcount.redis.turn import Ask, Later, Pieces, Reply, Turn

# What one transaction may hold: as many commands as can be counted at one instant without holding up others for long.
MAX_QUEUED: Final = 100_000
MAX_QUEUED_BYTES: Final = 32 * 1024 * 1024
MAX_OTHERS: Final = 1000  # of the commands, those that are not about counters: EXEC executes them in one go
MAX_ANSWER_BYTES: Final = 1024 * 1024  # of those
_COMMAND_BYTES: Final = 250  # of memory that a queued command takes beside its words, and each counter in it
QUEUED: Final = b"+QUEUED\r\n"
_BEFORE: Final = "of previous errors."

Put = Callable[[], Reply | Pieces]
"""Executes a command that was put off until EXEC: one that is not about counters."""


class Transaction(Turn):
    """The commands of one client since its MULTI.

    Args:
        version: of RESP.

    Attributes:
        size: bytes of memory that they take.
        begun: when, in seconds of `trio.current_time()`.
        failed: why EXEC will refuse it.
    """

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version = version
        self.size = 0
        self.begun = trio.current_time()
        self.failed = ""
        self._others = 0
        self._replies: list[Reply | Put] = []

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def items(self) -> Sequence[Add | Peek]:
        """What its commands count and read; groups are not nested."""
        return cast("list[Add | Peek]", self.asked)

    def fail(self, why: str = _BEFORE) -> None:
        """Keep nothing more: EXEC will refuse it all, and say why."""
        self.failed = self.failed or why
        self.size = 0
        self.asked, self._replies = [], []

    def queue(
        self, name: str, words: Words, execute: Ask | None, put: Put | None, may_keep: Callable[[], bool]
    ) -> bytes:
        """Take a command; returns what it is answered. Should it be wrong, EXEC will refuse it all.

        Args:
            name: of the command.
            words: of it.
            execute: executes it, when it counts or reads counters.
            put: executes it, when it does anything else that a transaction may hold.
            may_keep: whether there is memory for what this holds with it.
        """
        if self.failed:
            return QUEUED
        try:
            self._take(name, words, execute, put)
            if not may_keep():
                raise CommandError("OOM no memory is left for more commands of transactions")
        except CommandError as error:
            self.fail()
            return resp.error(str(error))
        return QUEUED

    def _take(self, name: str, words: Words, execute: Ask | None, put: Put | None) -> None:
        if not (execute or put) or name == "HELLO":  # it waits, or changes what replies look like
            raise CommandError(f"ERR {name} is not possible inside MULTI")
        self.size += sum(map(len, words)) + _COMMAND_BYTES * max(1, len(words) - 1)
        self._others += execute is None
        if len(self) >= MAX_QUEUED or self.size > MAX_QUEUED_BYTES or self._others > MAX_OTHERS:
            most = f"{MAX_QUEUED} commands, {MAX_OTHERS} of them not about counters, and {MAX_QUEUED_BYTES >> 20} MiB"
            raise CommandError(f"ERR the transaction is too big; at most it has {most}")
        if execute is not None:
            self._replies.append(execute(self, words))
        elif put is not None:
            self._replies.append(put)

    def execute(self) -> list[Reply]:
        """Execute what does not touch counters; returns all replies, those that wait for a commit among them.

        Raises:
            CommandError: one of them failed, so that nothing is to be counted.
        """
        size = 0
        replies: list[Reply] = []
        for reply in self._replies:
            if isinstance(reply, bytes | Later):
                replies.append(reply)
                continue
            answer = reply()
            if isinstance(answer, Pieces):
                answer = answer.render(b"".join(_beyond(MAX_ANSWER_BYTES - size, answer.pieces)))
            size += len(answer)
            if size > MAX_ANSWER_BYTES:
                raise CommandError(f"ERR the answers are longer than {MAX_ANSWER_BYTES // 2**20} MiB")
            replies.append(answer)
        return replies


def aborted(why: str) -> str:
    """What EXEC says when it did nothing."""
    return f"EXECABORT Transaction discarded because of: {why}"


def _beyond(size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces up to the one with which they are longer than that."""
    for piece in pieces:
        yield piece
        size -= len(piece)
        if size < 0:
            return
