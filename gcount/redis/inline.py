r"""Inline commands of Redis: a line of words, as a person types it.

INCR "page views"\r\n        the same as *2\r\n $4\r\nINCR\r\n $10\r\npage views\r\n
"""

import re
from typing import Final

MAX_INLINE_BYTES: Final = 64 * 1024

_BLANKS: Final = b" \t\r\n\x0b\x0c\x00"
_HTTP: Final = re.compile(rb" HTTP/[0-9.]+[ \r]*\Z")
_BEGINNING: Final = re.compile(rb"[\s\x00]*[A-Za-z\"']")
_PLAIN: Final = re.compile(rb"[^\s\x00\"']+")
_BLANK: Final = re.compile(rb"[\s\x00]*")
# Strings in quotes. In double quotes a backslash escapes any character, in single quotes only the closing quote.
_DOUBLE: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"(?=[\s\x00]|\Z)', re.DOTALL)
_SINGLE: Final = re.compile(rb"'((?:[^'\\]|\\'|\\(?!'))*)'(?=[\s\x00]|\Z)")
_ESCAPE: Final = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_SPECIAL: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def may_begin(line: bytes) -> bool:
    """Whether a line, as far as it has come, may be an inline command: it begins with a letter or a quote.

    Redis takes any line. But a line that begins with anything else is mostly a reply, or RESP that is out of step.
    """
    return _BEGINNING.match(line) is not None or not line.strip(_BLANKS)


def is_http(line: bytes) -> bool:
    """Whether a line, given without its end, is the request line of an HTTP request."""
    return _HTTP.search(line) is not None


def split_words(line: bytes) -> list[bytes] | None:
    """Split a line into words, and resolve quotes and escapes as Redis does; None if a quote is not closed."""
    if b'"' not in line and b"'" not in line:
        return line.replace(b"\x00", b" ").split()
    words: list[bytes] = []
    at = _behind_blanks(line, 0)
    while at < len(line):
        word = b""
        while line[at : at + 1].strip(_BLANKS):
            quoted = {b'"': _DOUBLE, b"'": _SINGLE}.get(line[at : at + 1])
            part = (quoted or _PLAIN).match(line, at)
            if part is None:
                return None
            word += part[0] if quoted is None else _resolved(part[1], quoted is _DOUBLE)
            at = part.end()
        words.append(word)
        at = _behind_blanks(line, at)
    return words


def _behind_blanks(line: bytes, at: int) -> int:
    found = _BLANK.match(line, at)
    return at if found is None else found.end()


def _resolved(text: bytes, double: bool) -> bytes:
    if not double:
        return text.replace(b"\\'", b"'")
    return _ESCAPE.sub(lambda escape: _unescaped(escape[1]), text)


def _unescaped(escape: bytes) -> bytes:
    return bytes([int(escape[1:], 16)]) if len(escape) == 3 else _SPECIAL.get(escape, escape)
