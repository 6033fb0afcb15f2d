"""The descriptions of commands, and how their arguments are read."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from gcount.core.limits import MAX_NAME_BYTES, valid_name
from gcount.errors import BadId
from gcount.node import requests
from gcount.redis.context import Call
from gcount.redis.resp import CommandError, Words
from gcount.redis.turn import Ask, Pieces, Reply


class Command(NamedTuple):
    """A command that clients may use. It has one of `ask`, `run` and `later`.

    Args:
        name: its name in capitals.
        arity: how many words it has, its name included; if negative, the least number of words.
        ask: executes a command that only counts or reads counters, at once.
        run: executes any other command that does not wait, at once.
        later: executes a command that may wait, when all commands before it were answered.
        waits: whether it needs a node that has recovered.
        queued: whether it waits for EXEC in a transaction.
        flags: its flags in the answer to COMMAND.
        keys: the positions of its first and last key in the answer to COMMAND; (0, 0) if it has none.
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
        known: all commands, by their names in capitals.
        refused: commands of Redis that make no sense here, each with the reason.
    """

    known: dict[bytes, Command]
    refused: Mapping[bytes, str]

    def unknown(self, words: Words, command: Command | None) -> tuple[str, str]:
        """The answer to a command that can't be executed.

        Args:
            words: the command's words.
            command: its description, if it is known and has the wrong number of words; else None.

        Returns:
            The name under which the metrics count it, and the text of the error.
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
    """Read a counter's name.

    Raises:
        CommandError: it is not allowed as a name.
    """
    with suppress(UnicodeDecodeError):
        name = raw.decode()
        if valid_name(name):
            return name
    allowed = f"1 to {MAX_NAME_BYTES} bytes of UTF-8 and no control characters"
    raise CommandError(f"ERR the counter's name is not allowed: {allowed}")


def parse_names(raw: list[bytes]) -> list[str] | None:
    """Read many names at once; None if they have to be read one by one."""
    if raw.count(raw[0]) == len(raw):
        try:
            return [parse_name(raw[0])] * len(raw)
        except CommandError:
            return None
    # One check of a joined text is faster than one for each name. Names with a space, or that are not ASCII, are rare;
    # they fail this check and are read one by one.
    text = b" ".join(raw).decode("ascii", "replace")
    names = text.split(" ")
    if not (text.isascii() and text.isprintable() and len(names) == len(raw)):
        return None
    return names if all(names) and max(map(len, names)) <= MAX_NAME_BYTES else None


def parse_id(raw: bytes) -> str:
    """Read the id of an increment.

    Raises:
        CommandError: it is not an id.
    """
    try:
        return requests.parse_id(raw.decode("latin-1"))
    except BadId as error:
        raise CommandError(f"ERR {error}") from None


def shown(word: bytes) -> str:
    """A client's word, as errors show it: its first 128 bytes."""
    return word[:128].decode("utf-8", "replace")
