"""Parses what clients of every protocol send, strictly: names, amounts, ids and timeouts. A refusal says what is
allowed.

How they are written in a protocol (percent-encoding, query parameters, words of a command) is not decided here.
"""

import math
import re
from typing import Final

from gcount.core.limits import MAX_CELL, MAX_NAME_BYTES, valid_name
from gcount.core.state.ids import MAX_ID_CHARACTERS, canonical, time_of, well_formed
from gcount.errors import BadAmount, BadId, BadName, BadParameter

MAX_READ_TIMEOUT: Final = 60.0  # seconds

_AMOUNT = re.compile(rb"[ \t\r\n\v\f]*([0-9]+)[ \t\r\n\v\f]*\Z")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z")
_MAX_DIGITS = len(str(MAX_CELL))


def parse_name(raw: bytes) -> str:
    """A counter's name.

    Args:
        raw: the UTF-8 bytes, after any encoding of a protocol was removed.

    Raises:
        BadName: the bytes are not a valid name.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = ""
    if not valid_name(name):
        allowed = f"1 to {MAX_NAME_BYTES} bytes of UTF-8 and no control characters"
        raise BadName(f"the counter's name is not allowed: {allowed}")
    return name


def parse_amount(text: bytes, called: str) -> int:
    """An amount, written in ASCII digits. White space around them is allowed.

    Args:
        text: the text that the client sent.
        called: how the client calls the amount, for the refusal.

    Raises:
        BadAmount: the text is not an amount, or it is above 2^64-1.
    """
    match = _AMOUNT.match(text)
    if match is None:
        raise BadAmount(f"{called} must be a non-negative integer in ASCII digits, 0 to 2^64-1, and nothing else")
    digits = match[1].lstrip(b"0") or b"0"  # int() takes quadratic time, so it gets only a bounded number of digits
    if len(digits) > _MAX_DIGITS or (amount := int(digits)) > MAX_CELL:
        raise BadAmount("the amount is above 2^64-1")
    return amount


def parse_id(text: str) -> str:
    """The id of an increment, in the form in which it is kept.

    Args:
        text: after any encoding of a protocol was removed.

    Raises:
        BadId: the text is no id, or it does not say when it was made.
    """
    if not well_formed(text):
        wrong = "has other characters, or too many or too few"
    elif time_of(text) is None:
        wrong = "does not say when it was made"
    else:
        return canonical(text)
    raise BadId(
        f"the id {wrong}: it must be a UUIDv7, a ULID or UNIXSECONDS-anything, "
        f"1 to {MAX_ID_CHARACTERS} characters of A-Z a-z 0-9 . _ ~ -"
    )


def parse_timeout(text: str) -> float:
    """The timeout of a consistent read, in seconds.

    Raises:
        BadParameter: the text is not a decimal number above 0 and at most 60.
    """
    seconds = float(text) if _SECONDS.match(text) else math.nan
    if not 0 < seconds <= MAX_READ_TIMEOUT:
        raise BadParameter(f"timeout must be a number of seconds above 0, {MAX_READ_TIMEOUT:g} at most")
    return seconds
