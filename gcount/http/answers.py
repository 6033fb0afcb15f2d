"""What a request is answered when all went well, and what every answer of HTTP says."""

import json
from dataclasses import dataclass
from typing import Final

# No answer is worth keeping: values change, and a cache in between would serve an old one for an exact one.
NO_STORE: Final = (b"cache-control", b"no-store")

TEXT: Final = "text/plain"
JSON: Final = "application/json"


@dataclass(frozen=True)
class Answer:
    """A good answer (200).

    Attributes:
        body: the whole body.
        content_type: what it is.
    """

    body: bytes
    content_type: str


def text(value: object) -> Answer:
    """A value on a line of text."""
    return Answer(f"{value}\n".encode(), TEXT)


def json_document(document: object) -> Answer:
    """A document of JSON on a line."""
    return Answer(json.dumps(document).encode() + b"\n", JSON)
