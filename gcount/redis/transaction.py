"""Transactions of Redis clients: commands wait from MULTI to EXEC, which executes all of them with one commit, or none.

A command is understood, and refused should it be wrong, when it is queued: what waits is what it counts and reads. So
EXEC has nothing left to go wrong but limits and the disk, which refuse all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from gcount.errors import Refusal
from gcount.redis import resp
from gcount.redis.command import Command, CommandError, Later, Turn, error_text, refusal_text

if TYPE_CHECKING:
    from gcount.redis.session import Session

# What one transaction may hold: as many commands as can be counted at one instant without holding up others for long.
MAX_QUEUED: Final = 100_000
MAX_QUEUED_BYTES: Final = 32 * 1024 * 1024
MAX_OTHERS: Final = 1000  # of the commands, those that are not about counters: EXEC executes them in one go
MAX_ANSWER_BYTES: Final = 1024 * 1024  # of those
_COMMAND_BYTES: Final = 250  # of memory that a queued command takes beside its words, and each counter in it
QUEUED: Final = b"+QUEUED\r\n"
_BEFORE: Final = "of previous errors."
_UNGUARDED: Final = (
    "WATCH is not possible: whether a counter has changed can't be told here, and an increment needs no such check"
)

Reply = bytes | Later


class _Put(NamedTuple):
    """A command that is put off until EXEC."""

    verb: Command
    words: list[bytes]


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
        self._replies: list[Reply | _Put] = []

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def counts(self) -> bool:
        """Whether it holds an increment."""
        return any(amount for _, amount in self.amounts)

    def fail(self, why: str = _BEFORE) -> None:
        """Keep nothing more: EXEC will refuse it all, and say why."""
        self.failed = self.failed or why
        self.size = 0
        self.amounts, self._replies = [], []

    def queue(self, verb: Command, words: list[bytes], may_keep: Callable[[], bool]) -> bytes:
        """Take a command; returns what it is answered. Should it be wrong, EXEC will refuse it all.

        Args:
            verb: what it is.
            words: of it.
            may_keep: whether there is memory for what this holds with it.
        """
        if self.failed:
            return QUEUED
        try:
            self._take(verb, words)
            if not may_keep():
                raise CommandError("OOM no memory is left for more commands of transactions")
        except CommandError as error:
            self.fail()
            return resp.error(str(error))
        return QUEUED

    def _take(self, verb: Command, words: list[bytes]) -> None:
        if verb.later is not None or verb.name == "HELLO":  # it waits, or changes what replies look like
            raise CommandError(f"ERR {verb.name} is not possible inside MULTI")
        self.size += sum(map(len, words)) + _COMMAND_BYTES * max(1, len(words) - 1)
        self._others += verb.ask is None
        if len(self) >= MAX_QUEUED or self.size > MAX_QUEUED_BYTES or self._others > MAX_OTHERS:
            most = f"{MAX_QUEUED} commands, {MAX_OTHERS} of them not about counters, and {MAX_QUEUED_BYTES >> 20} MiB"
            raise CommandError(f"ERR the transaction is too big; at most it has {most}")
        self._replies.append(_Put(verb, words) if verb.ask is None else verb.ask(self, words))

    def execute(self, session: Session) -> list[Reply]:
        """Execute what does not touch counters; returns all replies, those that wait for a commit among them.

        Raises:
            CommandError: one of them failed, so that nothing is to be counted.
        """
        size = 0
        replies: list[Reply] = []
        for reply in self._replies:
            if not isinstance(reply, _Put):
                replies.append(reply)
                continue
            assert reply.verb.run is not None
            answer = reply.verb.run(session, reply.words)
            size += len(answer)
            if size > MAX_ANSWER_BYTES:
                raise CommandError(f"ERR the answers are longer than {MAX_ANSWER_BYTES // 2**20} MiB")
            replies.append(answer)
        return replies


def _multi(session: Session, _words: list[bytes]) -> bytes:
    if session.transaction is not None:
        session.transaction.fail()
        raise CommandError("ERR MULTI calls can not be nested")
    session.transaction = Transaction(session.version)
    if session.unguarded:
        session.transaction.fail(f"of: {_UNGUARDED}")
    return resp.OK


def _exec(session: Session, _words: list[bytes]) -> Reply:
    transaction = session.transaction
    if transaction is None:
        raise CommandError("ERR EXEC without MULTI")
    end(session)
    if transaction.failed:
        raise CommandError(f"EXECABORT Transaction discarded because {transaction.failed}")
    try:
        replies = transaction.execute(session)
    except (CommandError, Refusal) as error:
        raise CommandError(aborted(error_text(error))) from None
    return session.together(transaction.amounts, partial(_render, replies), counts=transaction.counts)


def _render(replies: Sequence[Reply], values: Sequence[int]) -> bytes:
    return resp.array(
        reply if isinstance(reply, bytes) else reply.render(values[reply.first : reply.first + reply.values])
        for reply in replies
    )


def aborted(why: str) -> str:
    """What EXEC says when it did nothing."""
    return f"EXECABORT Transaction discarded because of: {why}"


def refused(refusal: Refusal) -> str:
    """What EXEC says when one of its increments can't be taken, so that none was."""
    return aborted(refusal_text(refusal))


def _discard(session: Session, _words: list[bytes]) -> bytes:
    if session.transaction is None:
        raise CommandError("ERR DISCARD without MULTI")
    end(session)
    return resp.OK


def _watch(session: Session, _words: list[bytes]) -> bytes:
    """Refused. The transaction that it was to guard is not executed without it: clients send all of it in one piece."""
    if session.transaction is not None:
        session.transaction.fail()
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    session.unguarded = True
    raise CommandError(f"ERR {_UNGUARDED}")


def _unwatch(session: Session, _words: list[bytes]) -> bytes:
    session.unguarded = False
    return resp.OK


def end(session: Session) -> None:
    """The session has no transaction any more."""
    session.transaction, session.unguarded = None, False


def skip(session: Session, name: str) -> None:
    """A command of that name is not executed: nor is a transaction that it begins, ends, guards or belongs to."""
    if session.transaction is None and name == "MULTI":
        session.transaction = Transaction(session.version)
    if session.transaction is not None:
        session.transaction.fail()
    elif name == "WATCH":
        session.unguarded = True
    if name in ("EXEC", "DISCARD", "RESET"):
        session.transaction = None


TRANSACTIONS: Final = [
    Command("MULTI", 1, run=_multi, queued=False),
    Command("EXEC", 1, run=_exec, waits=True, queued=False, flags=()),
    Command("DISCARD", 1, run=_discard, queued=False),
    Command("WATCH", -2, run=_watch, queued=False, keys=(1, -1)),
    Command("UNWATCH", 1, run=_unwatch),
]
