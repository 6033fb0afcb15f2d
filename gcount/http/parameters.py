"""Reading what clients write in HTTP's own ways: names and ids in paths, fields, query parameters, JSON documents."""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from gcount.errors import BadConfig, BadId, BadName, BadParameter, UnknownParameter
from gcount.node import requests

# How much of unknown parameters an error shows: the characters of a name, and the number of names.
_SHOWN = 40
_SHOWN_NAMES = 5

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@lru_cache(4096)
def name_in_path(segment: str) -> str:
    """The counter's name in a segment of a path.

    Args:
        segment: as it was sent, percent-encoded.

    Raises:
        BadName: it is not a name.
    """
    if _BAD_ESCAPE.search(segment):
        raise BadName("the counter's name has a '%' without two hexadecimal digits; '%' itself is written %25")
    raw = unquote_to_bytes(segment)
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise BadName("the counter's name is not UTF-8 after percent-decoding") from None
    return requests.parse_name(raw)


def id_in_path(segment: str) -> str:
    """The id of an increment in a segment of a path.

    Args:
        segment: as it was sent, percent-encoded.

    Raises:
        BadId: it is not an id.
    """
    if _BAD_ESCAPE.search(segment):
        raise BadId("the id has a '%' without two hexadecimal digits; no character of an id has to be percent-encoded")
    return requests.parse_id(unquote_to_bytes(segment).decode("latin-1"))


def idempotency_key(given: Sequence[str]) -> str | None:
    """The id that a request carries in its Idempotency-Key; None if it carries none.

    Args:
        given: the values of all fields of that name. A value is the id, bare or as a string in quotes (RFC 8941,
            3.3.3); no character of an id is escaped in it.

    Raises:
        BadId: it is not an id, or there are several.
    """
    if not given:
        return None
    if len(given) > 1:
        raise BadId("Idempotency-Key is given more than once; an increment has one id")
    text = given[0].strip("\t ")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return requests.parse_id(text)


def check_parameters(given: Iterable[str], allowed: Collection[str]) -> None:
    """Refuse unknown query parameters: a client that sends one expects it to have an effect.

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


def timeout_parameter(given: Sequence[str]) -> float | None:
    """The timeout of a consistent read, in seconds; None when it was not given.

    Args:
        given: the values of all parameters of that name.

    Raises:
        BadParameter: it is no timeout, or there are several.
    """
    if len(given) > 1:
        raise BadParameter("timeout is given more than once")
    return requests.parse_timeout(given[0]) if given else None


def parse_config(body: bytes) -> object:
    """The JSON document of a posted config. Its contents are checked later, when a membership is made of it.

    Raises:
        BadConfig: it is not JSON, or an object in it has two members of one name.
    """
    try:
        return json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise BadConfig('the body must be JSON like {"actors": ["10.0.0.1", "10.0.0.2"]}') from None


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    """The members of an object. Two of one name are refused: it is unknown which was meant (RFC 8259, 4)."""
    document = dict(members)
    if len(document) < len(members):
        raise BadConfig("the JSON body has an object with two members of one name")
    return document
