"""A turn: commands that are executed at one instant, in their order, and share one commit.

Increments and reads are staged in the turn, each at its place. So a command sees exactly the increments before it. The
answers that need the commit are made when the commit is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from gcount.core.writes.increments import Add, Outcome, Peek, Raise, Together, changes
from gcount.errors import ReadUnavailable, Refusal
from gcount.redis import resp
from gcount.redis.resp import CommandError, Words

Refused = Callable[[Refusal], str]
Render = Callable[[Sequence[int]], bytes]


def refusal_text(refusal: Refusal) -> str:
    """The text of a refusal as an error of Redis: its code, then the reason."""
    least = f"; it is at least {refusal.value}" if isinstance(refusal, ReadUnavailable) else ""
    return f"{refusal.redis_code} {refusal}{least}"


def error_text(error: CommandError | Refusal) -> str:
    """The text of the error that answers a failed command."""
    return str(error) if isinstance(error, CommandError) else refusal_text(error)


class Later(NamedTuple):
    """A reply that is known after the commit.

    Args:
        first: the position of its first value among the values of the turn.
        values: how many values it needs.
        render: makes the reply of these values.
        refused: makes the text of the error, if one of the increments was refused.
    """

    first: int
    values: int
    render: Render
    refused: Refused = refusal_text


Reply = bytes | Later


class Pieces(NamedTuple):
    """A reply that takes long to make, in pieces between which other tasks run.

    Args:
        pieces: makes the pieces, one after the other.
        render: makes the reply of all pieces, joined.
    """

    pieces: Iterator[bytes]
    render: Callable[[bytes], bytes]


class Turn:
    """The increments and reads of commands, at one instant.

    Attributes:
        version: the version of RESP, 2 or 3.
        asked: the increments, and the reads among them, in order.
        values: how many values `asked` will have.
    """

    def __init__(self) -> None:
        self.version = 2
        self.asked: list[Add | Raise | Peek | Together] = []
        self.values = 0

    def count(self, amount: int, name: str) -> Later:
        """Stage an increment; its reply is the value after it."""
        self.asked.append(Add(name, amount))
        self.values += 1
        return Later(self.values - 1, 1, _INTEGER[self.version])  # the version now: a HELLO may follow in this turn

    def raise_to(self, total: int, name: str, id_: str, *, once: bool) -> Later:
        """Stage what an id has added to a counter, as `Raise` has it; its reply is the counter's value after it."""
        self.asked.append(Raise(name, id_, total, once))
        self.values += 1
        return Later(self.values - 1, 1, _INTEGER[self.version])

    def read(self, names: Sequence[str], render: Render) -> Reply:
        """Read counters at this place in the turn.

        Args:
            names: the counters' names.
            render: makes the reply of their values.
        """
        first = self.values
        self.asked += map(Peek, names)
        self.values += len(names)
        return Later(first, len(names), render)


_INTEGER: Final[dict[int, Render]] = {
    2: lambda values: resp.integer(values[0], 2),
    3: lambda values: resp.integer(values[0], 3),
}

Ask = Callable[[Turn, Words], Reply]
"""Executes a command that counts or reads counters. It gets the turn and the command's words, and nothing else."""


class SessionTurn(Turn):
    """The turn of a session: its commands are executed as they come, and answered together.

    Args:
        value: returns the present value of a counter.

    Attributes:
        answers: the answers to its commands; those that wait for the commit are empty until then.
        size: the bytes of these answers.
    """

    def __init__(self, value: Callable[[str], int]) -> None:
        super().__init__()
        self.answers: list[bytes] = []
        self.size = 0
        self._value = value
        self._names: list[str] = []
        self._later: list[tuple[int, Later]] = []

    def read(self, names: Sequence[str], render: Render) -> Reply:
        """Read counters at this place in the turn; see `Turn.read`. Without increments before, the reply is ready."""
        if not self.asked:
            return render([self._value(name) for name in names])
        return super().read(names, render)

    def together(self, items: Sequence[Add | Raise | Peek], render: Render, refused: Refused) -> Reply:
        """Stage increments, of which all are taken or none, and the reads among them.

        Args:
            items: the increments and reads, in order.
            render: makes the reply of their values.
            refused: makes the text of the error, if they are refused.
        """
        if not (self.asked or changes(items)):
            return render([self._value(one.name) for one in items])
        first = self.values
        self.asked.append(Together(items))
        self.values += len(items)
        return Later(first, len(items), render, refused)

    def say(self, name: str, reply: Reply) -> None:
        """Answer a command.

        Args:
            name: the name under which the metrics count it.
            reply: the reply to it.
        """
        if not isinstance(reply, bytes):
            self._later.append((len(self.answers), reply))
            reply = b""
        self._names.append(name)
        self.answers.append(reply)
        self.size += len(reply)

    def settle(self, outcome: Outcome) -> None:
        """Make the answers that waited for the commit.

        Args:
            outcome: the outcome of `asked`.
        """
        assert len(outcome.values) == self.values, "an outcome has one value for each that the turn has asked for"
        later, self._later = self._later, []
        self.asked, self.values = [], 0
        for place, (first, number, render, refused) in later:
            found = outcome.part(first, number)
            self.answers[place] = resp.error(refused(found)) if isinstance(found, Refusal) else render(found)

    def take(self) -> tuple[list[str], list[bytes]]:
        """End the turn, and begin the next one.

        Returns:
            The names of the commands that were answered, and the answers.
        """
        assert not self._later, "no command is answered before its commit"
        names, answers = self._names, self.answers
        self._names, self.answers, self.size = [], [], 0
        return names, answers
