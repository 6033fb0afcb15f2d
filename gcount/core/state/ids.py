"""Ids of increments. An id says when it was made, so that a node knows for how long it can be sent again.

There are three forms: a UUID of version 7 (RFC 9562, 5.7), a ULID, and `UNIXSECONDS-anything`. A UUID and a ULID may be
written in letters of either case, and many programs and databases change the case. So they are brought to one form as
soon as they are read.

An id belongs to one counter. The *key* of both together is one string, because an id has no space in it.
"""

import re
from functools import lru_cache

MAX_ID_CHARACTERS = 64
_UUID_CHARACTERS = 36
_ULID_CHARACTERS = 26
_ALLOWED = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_UUID = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f])[0-9a-f]{3}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)
_SECONDS = re.compile(r"([0-9]{1,12})-.")
_CROCKFORD = str.maketrans("ABCDEFGHJKMNPQRSTVWXYZ", "ABCDEFGHIJKLMNOPQRSTUV")  # to the digits that `int` takes


def well_formed(id_: str) -> bool:
    """Whether an id has 1 to 64 characters of `[A-Za-z0-9._~-]`."""
    return _ALLOWED.fullmatch(id_) is not None


def canonical(id_: str) -> str:
    """The form in which an id is kept: a UUID in small letters, a ULID in capitals, any other id as it is."""
    # Most are in that form already. To see that is much faster than to match them.
    if len(id_) == _UUID_CHARACTERS and not id_.islower() and _UUID.fullmatch(id_) is not None:
        return id_.lower()
    if len(id_) == _ULID_CHARACTERS and not id_.isupper() and _ULID.fullmatch(id_) is not None:
        return id_.upper()
    return id_


@lru_cache(8192)  # from the parser to the entries it is asked for several times
def time_of(id_: str) -> int | None:
    """When an id was made, in whole seconds since 1970; None if the id does not say it."""
    if id_[10:11] == "-" and (prefix := id_[:10]).isdecimal() and id_[11:] and id_.isascii():  # the usual one, fast
        return int(prefix)
    if len(id_) == _UUID_CHARACTERS and (uuid := _UUID.fullmatch(id_)) is not None:
        return int(uuid[1] + uuid[2], 16) // 1000 if uuid[3] == "7" and uuid[4] in "89abAB" else None
    if len(id_) == _ULID_CHARACTERS and _ULID.fullmatch(id_) is not None:
        return int(id_[:10].upper().translate(_CROCKFORD), 32) // 1000
    seconds = _SECONDS.match(id_)
    return None if seconds is None else int(seconds[1])


def key_of(name: str, id_: str) -> str:
    """The key of a counter and an id."""
    return f"{id_} {name}"


def split(key: str) -> tuple[str, str]:
    """The id and the counter's name of a key. The name is empty if the key is none."""
    id_, _, name = key.partition(" ")
    return id_, name
