"""Errors as problems of RFC 9457: one value, which the fast path, the application and hypercorn's errors all render."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog

from gcount.errors import Refusal

logger: structlog.stdlib.BoundLogger = structlog.get_logger()

CONTENT_TYPE: Final = "application/problem+json"
# The codes of requests that are refused before a handler is called. All other codes are in the classes of `Refusal`.
CODES: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.NOT_FOUND: "no_such_route",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "body_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "head_too_large",
    HTTPStatus.INTERNAL_SERVER_ERROR: "unexpected",
    HTTPStatus.NOT_IMPLEMENTED: "unknown_transfer_coding",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "unknown_http_version",
}
# The details of requests that are refused before they come to the application.
_DETAILS: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "The request is not well-formed HTTP/1, or not a websocket upgrade of version 13.",
    HTTPStatus.NOT_IMPLEMENTED: "The only transfer coding that this server knows is chunked.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is longer than this server takes.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request line and headers are longer than 16 KiB.",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "This server speaks HTTP/1.1 and HTTP/1.0.",
}


@dataclass(frozen=True)
class Problem:
    """What went wrong with a request.

    Attributes:
        status: the HTTP status.
        code: a word for programs. It never changes; docs/api.md lists all codes.
        detail: what was wrong, and what is allowed or what to do.
        members: further members of the document.
        headers: further header fields, such as Allow.
    """

    status: int
    code: str
    detail: str
    members: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The document, as JSON on one line."""
        phrase = HTTPStatus(self.status).phrase
        document = {"type": "about:blank", "title": phrase, "status": int(self.status), "detail": self.detail}
        return json.dumps({**document, "code": self.code, **self.members}).encode() + b"\n"

    @property
    def fields(self) -> dict[str, str]:
        """The header fields, their names in lower case, without those that all answers have."""
        again = {"retry-after": "1"} if self.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        return {"content-type": CONTENT_TYPE, **again, **{name.lower(): value for name, value in self.headers.items()}}


def problem_of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """The problem of a request that was refused before a handler was called.

    Args:
        status: the HTTP status; it decides the code.
        detail: what was wrong and what is allowed.
        headers: further header fields.
    """
    family = HTTPStatus.INTERNAL_SERVER_ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.BAD_REQUEST
    return Problem(status, CODES.get(status, CODES[family]), detail, headers=headers or {})


def problem_of_server(status: HTTPStatus) -> Problem:
    """The problem of a request that was refused before it came to the application."""
    return problem_of_status(status, _DETAILS.get(status, status.description or status.phrase))


def problem_of_refusal(refusal: Refusal) -> Problem:
    """The problem that answers a refused request."""
    return Problem(refusal.status, refusal.code, str(refusal), refusal.members)


def problem_of_error(error: Exception, path: str) -> Problem:
    """The problem that answers a request which failed with an unexpected error. The error is written to the log.

    Args:
        error: the error.
        path: the path of the request.
    """
    logger.error("request failed", path=path, exc_info=error)
    detail = "an unexpected error happened in this node; its log has the details"
    return problem_of_status(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
