"""What a command of a Redis client is, and which there are; the words that all commands read alike."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from gcount.core.limits import MAX_NAME_BYTES, valid_name
from gcount.redis.context import Call
from gcount.redis.resp import CommandError, Words
from gcount.redis.turn import Ask, Pieces, Reply


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
    ask: Ask | None = None
    run: Callable[[Call], Reply | Pieces] | None = None
    later: Callable[[Call], Awaitable[bytes]] | None = None
    waits: bool = False
    queued: bool = True
    flags: tuple[str, ...] = ("fast",)
    keys: tuple[int, int] = (0, 0)

    def takes(self, words: int) -> bool:
        """Whether it may have so many words."""
        return words == self.arity if self.arity > 0 else words >= -self.arity


class Commands(NamedTuple):
    """The commands that clients may use.

    Args:
        known: by their names in capitals.
        refused: commands of Redis that make no sense here, and why.
    """

    known: dict[bytes, Command]
    refused: Mapping[bytes, str]

    def unknown(self, words: Words, command: Command | None) -> tuple[str, str]:
        """The name under which a command counts that can't be executed, and the error.

        Args:
            words: of it.
            command: what it is; it has the wrong number of words.
        """
        if command is not None:
            return command.name, f"ERR wrong number of arguments for '{command.name.lower()}' command"
        reason = self.refused.get(words[0].upper())
        if reason is not None:
            name = words[0].upper().decode()
            return name, f"ERR {name} is not possible: {reason}"
        first, *more = map(shown, words[:8])
        begins = "".join(f"'{word}' " for word in more)
        return "unknown", f"ERR unknown command '{first}', with args beginning with: {begins}"


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
