"""Answers to requests that succeeded, and the header field of every answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# Values change. A cache between client and node would pass off an old value as an exact one.
NO_STORE: Final = (b"cache-control", b"no-store")

# An increment with this field in its answer was known by its id, and has changed nothing.
REPLAYED: Final = ("idempotent-replayed", "true")

TEXT: Final = "text/plain"
JSON: Final = "application/json"


@dataclass(frozen=True)
class Answer:
    """An answer with status 200.

    Attributes:
        body: the whole body.
        content_type: the media type of the body.
        fields: further header fields, their names in lower case.
    """

    body: bytes
    content_type: str
    fields: Mapping[str, str] = field(default_factory=dict)


def text(value: object, fields: Mapping[str, str] | None = None) -> Answer:
    """An answer of text: a value and a newline, with further header fields."""
    return Answer(f"{value}\n".encode(), TEXT, fields or {})


def json_document(document: object) -> Answer:
    """An answer of JSON: a document on one line."""
    return Answer(json.dumps(document).encode() + b"\n", JSON)
