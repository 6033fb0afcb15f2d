"""What a command of a Redis client is, and what it is answered when it can't be executed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from gcount.core.limits import MAX_NAME_BYTES, valid_name
from gcount.errors import GcountError, ReadUnavailable, Refusal
from gcount.redis import resp

if TYPE_CHECKING:
    from gcount.redis.session import Session

Refused = Callable[[Refusal], str]


class CommandError(GcountError):
    """A command that is answered with an error; the text begins with the error's code."""


def refusal_text(refusal: Refusal) -> str:
    """A refusal as an error of Redis: its code, then why."""
    least = f"; it is at least {refusal.value}" if isinstance(refusal, ReadUnavailable) else ""
    return f"{refusal.redis_code} {refusal}{least}"


class Later(NamedTuple):
    """A reply that is known after the commit.

    Args:
        first: the place of its first value in the turn.
        values: how many values it needs.
        render: makes the reply of them.
        refused: makes the error, should one of them have been refused.
    """

    first: int
    values: int
    render: Callable[[Sequence[int]], bytes]
    refused: Refused = refusal_text


class Turn:
    """Commands that are executed at one instant, in their order, and share one commit.

    Attributes:
        version: of RESP, 2 or 3.
        amounts: counters and what to add to them; 0 is there to know the value at its place.
    """

    def __init__(self) -> None:
        self.version = 2
        self.amounts: list[tuple[str, int]] = []

    def count(self, amount: int, name: str) -> Later:
        """Stage an increment; its reply is the value after it."""
        self.amounts.append((name, amount))
        return Later(len(self.amounts) - 1, 1, _INTEGER[self.version])  # a HELLO may follow in the same turn

    def read(self, names: Sequence[str], render: Callable[[Sequence[int]], bytes]) -> bytes | Later:
        """Read counters as they are at this place in the turn."""
        first = len(self.amounts)
        self.amounts += [(name, 0) for name in names]
        return Later(first, len(names), render)


_INTEGER: Final[dict[int, Callable[[Sequence[int]], bytes]]] = {
    2: lambda values: resp.integer(values[0], 2),
    3: lambda values: resp.integer(values[0], 3),
}


class Command(NamedTuple):
    """A command that is known.

    Args:
        name: in capitals.
        arity: how many words it has, its name included; negative: at least so many.
        ask: executes it, at once, when it counts or reads counters; `run` when it does anything else; `later` executes
            it when everything before it was answered.
        waits: whether it needs a node that has recovered.
        queued: whether it waits for EXEC in a transaction.
        flags: for clients that ask.
        keys: where its first and last key stand, for clients that ask.
    """

    name: str
    arity: int
    ask: Callable[[Turn, list[bytes]], bytes | Later] | None = None
    run: Callable[[Session, list[bytes]], bytes | Later] | None = None
    later: Callable[[Session, list[bytes]], Awaitable[bytes]] | None = None
    waits: bool = False
    queued: bool = True
    flags: tuple[str, ...] = ("fast",)
    keys: tuple[int, int] = (0, 0)

    def takes(self, words: int) -> bool:
        """Whether it may have so many words."""
        return words == self.arity if self.arity > 0 else words >= -self.arity


def error_text(error: CommandError | Refusal) -> str:
    """What a command is answered that went wrong."""
    return str(error) if isinstance(error, CommandError) else refusal_text(error)


def unknown(command: list[bytes], verb: Command | None, refused: Mapping[bytes, str]) -> tuple[str, str]:
    """The name under which a command counts that can't be executed, and the error.

    Args:
        command: its words.
        verb: what it is; it has the wrong number of words.
        refused: commands of Redis that make no sense here, and why.
    """
    if verb is not None:
        return verb.name, f"ERR wrong number of arguments for '{verb.name.lower()}' command"
    reason = refused.get(command[0].upper())
    if reason is not None:
        name = command[0].upper().decode()
        return name, f"ERR {name} is not possible: {reason}"
    words = [*map(shown, command[:8])]
    begins = "".join(f"'{word}' " for word in words[1:])
    return "unknown", f"ERR unknown command '{words[0]}', with args beginning with: {begins}"


@lru_cache(4096)
def parse_name(raw: bytes) -> str:
    """A counter's name.

    Raises:
        CommandError: it is not one.
    """
    with suppress(UnicodeDecodeError):
        name = raw.decode()
        if valid_name(name):
            return name
    allowed = f"1 to {MAX_NAME_BYTES} bytes of UTF-8 and no control characters"
    raise CommandError(f"ERR the counter's name is not allowed: {allowed}")


def parse_names(raw: list[bytes]) -> list[str] | None:
    """Many names at once; None when one of them has to be looked at more closely."""
    if raw.count(raw[0]) == len(raw):
        try:
            return [parse_name(raw[0])] * len(raw)
        except CommandError:
            return None
    text = b" ".join(raw).decode("ascii", "replace")  # which few names contain; those are looked at one by one
    names = text.split(" ")
    if not (text.isascii() and text.isprintable() and len(names) == len(raw)):
        return None
    return names if all(names) and max(map(len, names)) <= MAX_NAME_BYTES else None


def shown(word: bytes) -> str:
    """A client's word as an error shows it."""
    return word[:128].decode("utf-8", "replace")
