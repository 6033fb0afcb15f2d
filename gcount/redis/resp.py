r"""RESP, the protocol of Redis: commands read from bytes, replies as bytes (versions 2 and 3).

    *2\r\n $4\r\nINCR\r\n $5\r\nviews\r\n          a command: an array of bulk strings
    :6\r\n                                         its reply

    INCR views\r\n                                 the same as an inline command (see `inline.py`)

The parser of hiredis is made for the replies of servers. It allocates what a client claims (an array of a billion), it
takes what no client may send (numbers, maps, arrays in arrays), and it does not check how a string ends. So commands
are read here: strictly, and as fast. One split finds all lines, and lengths are looked up, not computed.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gcount.core.limits import MAX_NAME_BYTES
from gcount.errors import GcountError
from gcount.redis import inline

Words = list[bytes]
"""The name of a command, as the client wrote it, and its arguments."""

# These limits bound the memory that one command can take: less than 6 MiB, in whatever pieces it comes. A command with
# 16,384 names of the greatest length is within them.
MAX_ARGUMENTS: Final = 16_384 + 1
MAX_BULK_BYTES: Final = 64 * 1024
MAX_COMMAND_BYTES: Final = 4_500_000
assert MAX_ARGUMENTS * (MAX_NAME_BYTES + len(b"$255\r\n\r\n")) <= MAX_COMMAND_BYTES, "the longest command can be sent"
_MAX_HEAD_BYTES: Final = 32
_WORD_BYTES: Final = 56  # bytes that a word takes beside its own: an object, and a place in a list

_COUNTS: Final = {b"*%d" % n: n for n in range(64)}
_SIZES: Final = {b"$%d" % n: n for n in range(512)}
_SIZE_HEADS: Final = [b"$%d" % n for n in range(512)]
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_NONE_OR_LESS: Final = re.compile(rb"-[0-9]{1,9}")
_PAIR: Final = re.compile(rb"\*2\r\n\$([0-9]{1,3})\r\n([A-Za-z]+)\r\n\$([0-9]{1,3})\r\n([^\r\n]+)\r\n")

_INT64: Final = range(-(2**63), 2**63)


class ProtocolFault(GcountError):
    """The input of a client is not RESP. Its connection ends."""


class CommandError(GcountError):
    """A command is answered with an error. The text begins with the error's code."""


class Parser:
    """Reads the commands of one connection.

    Attributes:
        fault: what is wrong with the input after the last command that was read; nothing more is read then.
    """

    def __init__(self) -> None:
        self.fault: ProtocolFault | None = None
        # A command that has not all come.
        self._tail = b""  # its input from the last incomplete line or string on
        self._needed = 0  # the least length of the tail with which that line or string can be complete
        self._arguments: Words = []  # its words that have come
        self._missing = 0  # how many of its words have not come
        self._held = 0  # the bytes of it that have come

    @property
    def held(self) -> int:
        """The bytes of memory that the unfinished command takes."""
        return self._held + _WORD_BYTES * len(self._arguments)

    @property
    def between_commands(self) -> bool:
        """Whether all input so far was read, and no command is unfinished."""
        return not (self._tail or self._missing or self.fault)

    def feed(self, data: bytes) -> list[Words]:
        """Read input; returns the commands that are complete now, without empty ones."""
        if self.fault:
            return []
        self._held += len(data)
        if self._tail:
            data = self._tail + data
        if len(data) < self._needed:
            self._tail = data
            return []
        commands: list[Words] = []
        try:
            self._read(data.split(b"\r\n"), commands)
            if self._held > MAX_COMMAND_BYTES:
                raise ProtocolFault("too big a command")
        except ProtocolFault as fault:
            self.refuse(fault)
        return commands

    def refuse(self, fault: ProtocolFault) -> None:
        """Read nothing more, and drop the unfinished command."""
        self.fault = fault
        self._tail, self._arguments, self._held = b"", [], 0

    def _read(self, lines: list[bytes], commands: list[Words]) -> None:
        """Read lines, of which the last has no end yet, and keep the command that is not complete.

        It is one function with indices, without calls for a usual command: all pipelines go through it.
        """
        at, end = 0, len(lines) - 1
        missing, arguments = self._missing, self._arguments
        begun = None  # the line at which the last command begins; None if it began in earlier input
        self._needed = 0
        while True:
            if not missing:
                begun = at
                if at >= end:
                    if b"\n" in lines[at]:
                        lines[at] = _read_inline(lines[at], commands, ended=False)
                    break
                head = lines[at]
                count = _COUNTS.get(head)
                if count is None and head[:1] != b"*":
                    lines[at] = _read_inline(head, commands, ended=True)
                    at += not lines[at]
                    continue
                missing = _count(head) if count is None else count
                at += 1
                if not missing:
                    continue
                arguments = []
            while missing:
                if at >= end:
                    break
                head = lines[at]
                size = _SIZES.get(head)
                if size is None:
                    size = _size(head)
                payload, after = lines[at + 1], at + 2
                if len(payload) != size or after > end:
                    payload, after = _across_lines(lines, at + 1, size)
                    if after > end:
                        self._needed = len(head) + size + 4
                        break
                arguments.append(payload)
                missing -= 1
                at = after
            if missing:
                break
            commands.append(arguments)
        self._missing, self._arguments = missing, arguments if missing else []
        self._tail = lines[at] if at == end else b"\r\n".join(lines[at:])
        if begun is not None:
            self._held = len(b"\r\n".join(lines[begun:]))
        if at == end:
            _check_beginning(self._tail, b"$" if missing else b"*")


def columns(data: bytes) -> tuple[bytes, list[bytes]] | None:
    """Read a long pipeline of the usual shape at once: the same command again and again, with one argument each.

    Args:
        data: input that begins with a command.

    Returns:
        The command's name and the arguments; None if the input is anything else, or not complete.
    """
    first = _PAIR.match(data)
    if first is None:
        return None
    size, command, argument_size, argument = first.groups()
    if int(size) != len(command) or int(argument_size) != len(argument):
        return None
    if first.end() == len(data):
        return command, [argument]
    times, odd = divmod(len(data), first.end())
    if not odd and data == first[0] * times:
        return command, [argument] * times
    lines = data.split(b"\r\n")
    times, odd = divmod(len(lines), 5)
    if odd != 1 or lines.pop():
        return None
    if lines[0::5].count(b"*2") != times or lines[2::5].count(command) != times:
        return None
    arguments = lines[4::5]
    try:
        sizes = [_SIZE_HEADS[size] for size in map(len, arguments)]
    except IndexError:
        return None
    if lines[3::5] != sizes or lines[1::5].count(_SIZE_HEADS[len(command)]) != times:
        return None
    return command, arguments


def _read_inline(text: bytes, commands: list[Words], *, ended: bool) -> bytes:
    """Read inline commands; returns the rest of the text, which begins RESP or is a line without an end."""
    lines = text.split(b"\n")
    for at, line in enumerate(lines):
        if line[:1] == b"*":
            return b"\n".join(lines[at:])
        if not ended and at == len(lines) - 1:
            return line
        words = _words(line.removesuffix(b"\r"))
        if words:
            commands.append(words)
    return b""


def _words(line: bytes) -> Words:
    """The words of an inline command; no words of an empty line, which is passed over."""
    if not inline.may_begin(line):
        raise ProtocolFault(f"expected '*', got {_shown(line)}")
    if len(line) > inline.MAX_INLINE_BYTES:
        raise ProtocolFault("too big inline request")
    if inline.is_http(line):
        raise ProtocolFault("an HTTP request on a connection that speaks Redis' protocol")
    words = inline.split_words(line)
    if words is None:
        raise ProtocolFault("unbalanced quotes in request")
    if len(words) > MAX_ARGUMENTS:
        raise ProtocolFault("too many words in a line")
    return words


def _count(head: bytes) -> int:
    """The number of words that follow; 0 for an empty command, which is passed over."""
    if _NONE_OR_LESS.fullmatch(head, 1):
        return 0
    if not _LENGTH.fullmatch(head, 1) or int(head[1:]) > MAX_ARGUMENTS:
        raise ProtocolFault("invalid multibulk length")
    return int(head[1:])


def _size(head: bytes) -> int:
    if head[:1] != b"$":
        raise ProtocolFault(f"expected '$', got {_shown(head)}")
    if not _LENGTH.fullmatch(head, 1) or int(head[1:]) > MAX_BULK_BYTES:
        raise ProtocolFault("invalid bulk length")
    return int(head[1:])


def _shown(head: bytes) -> str:
    return ascii(chr(head[0]))


def _across_lines(lines: list[bytes], at: int, size: int) -> tuple[bytes, int]:
    """Read a string that contains line ends.

    Args:
        lines: the input.
        at: the line in which the string begins.
        size: the string's length in bytes.

    Returns:
        The string, and the number of the line after it. That number is beyond the input if the string is not complete.
    """
    start, length, last = at, len(lines[at]), len(lines) - 1
    while length < size and at < last:
        at += 1
        length += 2 + len(lines[at])
    # The string reaches into the last line: its line end, or half of it, has not come yet.
    if at == last and (length <= size or (length == size + 1 and lines[at].endswith(b"\r"))):
        return b"", last + 2
    if length != size:
        raise ProtocolFault("a string is not followed by a line end")
    return b"\r\n".join(lines[start : at + 1]), at + 1


def _check_beginning(line: bytes, kind: bytes) -> None:
    """Refuse a line, as far as it has come, if it can't become what is expected.

    Args:
        line: the line without an end.
        kind: what is expected: `*` for a command, `$` for an argument.
    """
    if kind == b"*" and line[:1] != kind and inline.may_begin(line):
        if len(line) > inline.MAX_INLINE_BYTES:
            raise ProtocolFault("too big inline request")
        return
    if line and line[:1] != kind:
        raise ProtocolFault(f"expected '{kind.decode()}', got {_shown(line)}")
    if len(line) > _MAX_HEAD_BYTES:
        raise ProtocolFault("too big mbulk count string" if kind == b"*" else "too big bulk count string")


# Replies

OK: Final = b"+OK\r\n"
NULL: Final = {2: b"$-1\r\n", 3: b"_\r\n"}


def bulk(data: bytes) -> bytes:
    """A string of any bytes."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def integer(number: int, version: int) -> bytes:
    """An integer of any size. Beyond 64 bits it is a big number in RESP3, and a string in RESP2."""
    if number in _INT64:
        return b":%d\r\n" % number
    digits = b"%d" % number
    return b"(%b\r\n" % digits if version == 3 else bulk(digits)


def integers(numbers: Sequence[int], greatest: int, version: int) -> bytes:
    """The replies to many commands: one integer each.

    Args:
        numbers: the integers, none of them negative.
        greatest: the greatest of them.
        version: the version of RESP.
    """
    if greatest in _INT64:
        return b":%d\r\n" * len(numbers) % tuple(numbers)  # takes less than half the time of one by one
    return b"".join([integer(number, version) for number in numbers])


def error(text: str) -> bytes:
    """An error; its first word, in capitals, is its code."""
    return b"-%b\r\n" % " ".join(text.split()).encode()


def array(items: Iterable[bytes]) -> bytes:
    """An array of replies."""
    replies = list(items)
    return b"*%d\r\n" % len(replies) + b"".join(replies)


def mapping(pairs: Iterable[tuple[bytes, bytes]], version: int) -> bytes:
    """A map of replies. In RESP2 it is an array of keys and values."""
    replies = [key + value for key, value in pairs]
    head = b"%%%d\r\n" % len(replies) if version == 3 else b"*%d\r\n" % (2 * len(replies))
    return head + b"".join(replies)
