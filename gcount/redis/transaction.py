"""Transactions of Redis clients: commands wait from MULTI to EXEC, which executes all of them with one commit, or none.

A command is parsed when it is queued, and a wrong one is refused then. What waits are its increments and reads. So at
EXEC only a limit or the disk can refuse something, and then it refuses the whole transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

import trio

from gcount.core.writes.increments import Add, Peek, Raise
from gcount.redis import resp
from gcount.redis.resp import CommandError, Words
from gcount.redis.turn import Ask, Later, Pieces, Reply, Turn

# The limits of one transaction. EXEC executes all its commands at one instant, and other clients wait meanwhile.
MAX_QUEUED: Final = 100_000  # commands
MAX_QUEUED_BYTES: Final = 32 * 1024 * 1024
MAX_OTHERS: Final = 1000  # commands that are not about counters: EXEC executes them without a pause
MAX_ANSWER_BYTES: Final = 1024 * 1024  # of the answers to those
_COMMAND_BYTES: Final = 250  # bytes of memory that a queued command takes for each counter in it, beside its words
QUEUED: Final = b"+QUEUED\r\n"
_BEFORE: Final = "of previous errors."

Put = Callable[[], Reply | Pieces]
"""Executes a command that waited for EXEC and is not about counters."""


class Transaction(Turn):
    """The commands of one client since its MULTI.

    Args:
        version: the version of RESP.

    Attributes:
        size: the bytes of memory that the commands take.
        begun: when MULTI came, in seconds of `trio.current_time()`.
        failed: why EXEC will refuse the transaction; empty if it will not.
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
    def items(self) -> Sequence[Add | Raise | Peek]:
        """The increments and reads of its commands; none of them is a group."""
        return cast("list[Add | Raise | Peek]", self.asked)

    def fail(self, why: str = _BEFORE) -> None:
        """Drop all commands: EXEC will refuse the transaction, and say why."""
        self.failed = self.failed or why
        self.size = 0
        self.asked, self._replies = [], []

    def queue(
        self, name: str, words: Words, execute: Ask | None, put: Put | None, may_keep: Callable[[], bool]
    ) -> bytes:
        """Queue a command. If it is wrong, EXEC will refuse the whole transaction.

        Args:
            name: the command's name.
            words: the command's words.
            execute: executes the command if it counts or reads counters, else None.
            put: executes the command if it does anything else that a transaction may contain, else None.
            may_keep: whether there is memory for the transaction with this command.

        Returns:
            The answer to the command.
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
        if not (execute or put) or name == "HELLO":  # it would wait, or change the version of the replies
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
        """Execute the commands that are not about counters.

        Returns:
            The replies to all commands. Those to commands about counters wait for the commit.

        Raises:
            CommandError: one of the commands failed, so that nothing is to be counted.
        """
        assert not self.failed, "a transaction that has failed is not executed"
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
    """The error of an EXEC that has executed nothing."""
    return f"EXECABORT Transaction discarded because of: {why}"


def _beyond(size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The first pieces, up to and with the one that makes them longer than `size` bytes."""
    for piece in pieces:
        yield piece
        size -= len(piece)
        if size < 0:
            return
