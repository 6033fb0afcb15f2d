"""Answers to requests that succeeded, and the header field of every answer."""

import json
from dataclasses import dataclass
from typing import Final

# Values change. A cache between client and node would pass off an old value as an exact one.
NO_STORE: Final = (b"cache-control", b"no-store")

TEXT: Final = "text/plain"
JSON: Final = "application/json"


@dataclass(frozen=True)
class Answer:
    """An answer with status 200.

    Attributes:
        body: the whole body.
        content_type: the media type of the body.
    """

    body: bytes
    content_type: str


def text(value: object) -> Answer:
    """An answer of text: a value and a newline."""
    return Answer(f"{value}\n".encode(), TEXT)


def json_document(document: object) -> Answer:
    """An answer of JSON: a document on one line."""
    return Answer(json.dumps(document).encode() + b"\n", JSON)
