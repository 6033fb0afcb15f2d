"""What clients write, read strictly: names, amounts, timeouts, configs. Every refusal says what is allowed."""

import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from gcount.core.limits import MAX_CELL, MAX_NAME_BYTES, valid_name
from gcount.errors import BadRequest

MAX_READ_TIMEOUT = 60.0  # seconds

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
        BadRequest: it is not a name.
    """
    if _BAD_ESCAPE.search(quoted):
        raise BadRequest("the counter's name has a '%' without two hexadecimal digits; '%' itself is written %25")
    try:
        name = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        raise BadRequest("the counter's name is not UTF-8 after percent-decoding") from None
    if not valid_name(name):
        allowed = f"1 to {MAX_NAME_BYTES} bytes of UTF-8 and no control characters"
        raise BadRequest(f"the counter's name is not allowed: {allowed}")
    return name


def parse_amount(body: bytes) -> int:
    """The amount in a request's body: ASCII digits, white space around them allowed.

    Raises:
        BadRequest: it is something else, or above 2^64-1.
    """
    match = _AMOUNT.match(body)
    if match is None:
        raise BadRequest("the body must be a non-negative integer in ASCII digits, 0 to 2^64-1, and nothing else")
    digits = match[1].lstrip(b"0") or b"0"  # int() is asked only for what has a bounded length
    if len(digits) > _MAX_DIGITS or (amount := int(digits)) > MAX_CELL:
        raise BadRequest("the amount is above 2^64-1")
    return amount


def parse_timeout(given: Sequence[str]) -> float | None:
    """The timeout of a consistent read, in seconds; None when it was not given.

    Args:
        given: the values of all parameters of that name.

    Raises:
        BadRequest: it is not a decimal number above 0, and 60 at most, or there are several.
    """
    if not given:
        return None
    if len(given) > 1:
        raise BadRequest("timeout is given more than once")
    seconds = float(given[0]) if _SECONDS.match(given[0]) else math.nan
    if not 0 < seconds <= MAX_READ_TIMEOUT:
        raise BadRequest(f"timeout must be a number of seconds above 0, {MAX_READ_TIMEOUT:g} at most")
    return seconds


def parse_config(body: bytes) -> object:
    """The JSON document of a posted config; what has to be in it is the membership's to say.

    Raises:
        BadRequest: it is not JSON, or some object in it has two members of one name.
    """
    try:
        return json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise BadRequest('the body must be JSON like {"actors": ["10.0.0.1", "10.0.0.2"]}') from None


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    """An object's members; which of two alike was meant, nobody can know (RFC 8259, 4)."""
    document = dict(members)
    if len(document) < len(members):
        raise BadRequest("the JSON body has an object with two members of one name")
    return document
