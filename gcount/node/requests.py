"""What clients write, read strictly: names, amounts, timeouts, configs. Every refusal says what is allowed."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from gcount.core.limits import MAX_CELL, MAX_NAME_BYTES, valid_name
from gcount.errors import BadAmount, BadConfig, BadName, BadParameter, UnknownParameter

MAX_READ_TIMEOUT = 60.0  # seconds

# As much of what is unknown as an error shows.
_SHOWN = 40
_SHOWN_NAMES = 5

_AMOUNT = re.compile(rb"[ \t\r\n\v\f]*([0-9]+)[ \t\r\n\v\f]*\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z")
_MAX_DIGITS = len(str(MAX_CELL))


@lru_cache(4096)
def parse_name(quoted: str) -> str:
    """The counter's name in a path segment.

    Args:
        quoted: the segment as it was sent, percent-encoded.

    Raises:
        BadName: it is not a name.
    """
    if _BAD_ESCAPE.search(quoted):
        raise BadName("the counter's name has a '%' without two hexadecimal digits; '%' itself is written %25")
    try:
        name = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        raise BadName("the counter's name is not UTF-8 after percent-decoding") from None
    if not valid_name(name):
        allowed = f"1 to {MAX_NAME_BYTES} bytes of UTF-8 and no control characters"
        raise BadName(f"the counter's name is not allowed: {allowed}")
    return name


def parse_amount(body: bytes) -> int:
    """The amount in a request's body: ASCII digits, white space around them allowed.

    Raises:
        BadAmount: it is something else, or above 2^64-1.
    """
    match = _AMOUNT.match(body)
    if match is None:
        raise BadAmount("the body must be a non-negative integer in ASCII digits, 0 to 2^64-1, and nothing else")
    digits = match[1].lstrip(b"0") or b"0"  # int() is asked only for what has a bounded length
    if len(digits) > _MAX_DIGITS or (amount := int(digits)) > MAX_CELL:
        raise BadAmount("the amount is above 2^64-1")
    return amount


def check_parameters(given: Iterable[str], allowed: Sequence[str]) -> None:
    """Refuse query parameters that mean nothing: whoever wrote one meant something by it.

    Args:
        given: the names of those that a request has.
        allowed: the names of those that its route knows.

    Raises:
        UnknownParameter: some are not among them.
    """
    unknown = [name for name in given if name not in allowed]
    if unknown:
        shown = ", ".join(repr(name[:_SHOWN]) for name in unknown[:_SHOWN_NAMES])
        known = f"only {', '.join(allowed)} is" if allowed else "none is"
        raise UnknownParameter(f"unknown query parameter {shown}; {known} allowed here")


def parse_timeout(given: Sequence[str]) -> float | None:
    """The timeout of a consistent read, in seconds; None when it was not given.

    Args:
        given: the values of all parameters of that name.

    Raises:
        BadParameter: it is not a decimal number above 0, and 60 at most, or there are several.
    """
    if not given:
        return None
    if len(given) > 1:
        raise BadParameter("timeout is given more than once")
    seconds = float(given[0]) if _SECONDS.match(given[0]) else math.nan
    if not 0 < seconds <= MAX_READ_TIMEOUT:
        raise BadParameter(f"timeout must be a number of seconds above 0, {MAX_READ_TIMEOUT:g} at most")
    return seconds


def parse_config(body: bytes) -> object:
    """The JSON document of a posted config; what has to be in it is the membership's to say.

    Raises:
        BadConfig: it is not JSON, or some object in it has two members of one name.
    """
    try:
        return json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise BadConfig('the body must be JSON like {"actors": ["10.0.0.1", "10.0.0.2"]}') from None


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    """An object's members; which of two alike was meant, nobody can know (RFC 8259, 4)."""
    document = dict(members)
    if len(document) < len(members):
        raise BadConfig("the JSON body has an object with two members of one name")
    return document
