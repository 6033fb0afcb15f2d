"""Ids of increments. An id says when it was made, so that a node knows for how long it can be sent again.

There are three forms: a UUID of version 7 (RFC 9562, 5.7), a ULID, and `UNIXSECONDS-anything`. An id belongs to one
counter. The *key* of both together is one string, because an id has no space in it.
"""

import re
from functools import lru_cache

MAX_ID_CHARACTERS = 64
_ALLOWED = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_UUID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_ANY_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)
_SECONDS = re.compile(r"([0-9]{1,12})-.")
_CROCKFORD = {character: n for n, character in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}


def well_formed(id_: str) -> bool:
    """Whether an id has 1 to 64 characters of `[A-Za-z0-9._~-]`."""
    return _ALLOWED.fullmatch(id_) is not None


@lru_cache(8192)  # from the parser to the entries it is asked for several times
def time_of(id_: str) -> int | None:
    """When an id was made, in whole seconds since 1970; None if the id does not say it."""
    if (seconds := _SECONDS.match(id_)) is not None and id_[8:9] != "-":
        return int(seconds[1])
    if (uuid := _UUID.fullmatch(id_)) is not None:
        return int(uuid[1] + uuid[2], 16) // 1000 if uuid[3] == "7" else None
    if _ULID.fullmatch(id_) is not None:
        milliseconds = 0
        for character in id_[:10].upper():
            milliseconds = milliseconds * 32 + _CROCKFORD[character]
        return milliseconds // 1000
    if seconds is None or _ANY_UUID.fullmatch(id_) is not None:
        return None
    return int(seconds[1])


def key_of(name: str, id_: str) -> str:
    """The key of a counter and an id."""
    return f"{id_} {name}"


def split(key: str) -> tuple[str, str]:
    """The id and the counter's name of a key. The name is empty if the key is none."""
    id_, _, name = key.partition(" ")
    return id_, name
