"""What a command of a Redis client is, and what it is answered when it can't be executed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from gcount.core.limits import MAX_NAME_BYTES, valid_name
from gcount.errors import (
    CounterLimitReached,
    DiskFull,
    GcountError,
    IncarnationLimitReached,
    PartLimitReached,
    ReadUnavailable,
    Recovering,
    Refusal,
)

if TYPE_CHECKING:
    from gcount.api.session import Session

_CODES: Final[dict[type[Refusal], str]] = {
    PartLimitReached: "ERR increment or decrement would overflow:",
    CounterLimitReached: "OOM",
    IncarnationLimitReached: "OOM",
    DiskFull: "MISCONF",
    ReadUnavailable: "UNAVAILABLE",
    Recovering: "LOADING",
}


class CommandError(GcountError):
    """A command that is answered with an error; the text begins with the error's code."""


class Later(NamedTuple):
    """A reply that is known after the commit.

    Args:
        first: the place of its first value in the turn.
        values: how many values it needs.
        render: makes the reply of them.
    """

    first: int
    values: int
    render: Callable[[Sequence[int]], bytes]


class Verb(NamedTuple):
    """A command that is known.

    Args:
        name: in capitals.
        arity: how many words it has, its name included; negative: at least so many.
        run: executes it, at once; `later` executes it when everything before it was answered.
        waits: whether it needs a node that has recovered.
        flags: for clients that ask.
        keys: where its first and last key stand, for clients that ask.
    """

    name: str
    arity: int
    run: Callable[[Session, list[bytes]], bytes | Later] | None = None
    later: Callable[[Session, list[bytes]], Awaitable[bytes]] | None = None
    waits: bool = False
    flags: tuple[str, ...] = ("fast",)
    keys: tuple[int, int] = (0, 0)

    def takes(self, words: int) -> bool:
        """Whether it may have so many words."""
        return words == self.arity if self.arity > 0 else words >= -self.arity


def refusal_text(refusal: Refusal) -> str:
    """A refusal as an error of Redis: its code, then why."""
    if isinstance(refusal, ReadUnavailable):
        return f"{_CODES[ReadUnavailable]} {refusal}; it is at least {refusal.value}"
    return f"{_CODES.get(type(refusal), 'ERR')} {refusal}"


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
