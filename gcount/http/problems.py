"""Errors as RFC 9457 problems: one place that turns what went wrong into a status, a code and a body."""

import json
from http import HTTPStatus
from typing import Final

import structlog
from quart import Response

from gcount.errors import (
    BadAmount,
    BadConfig,
    BadName,
    BadParameter,
    BadRequest,
    CounterLimitReached,
    DiskFull,
    ForeignOrigin,
    IncarnationLimitReached,
    PartLimitReached,
    ReadUnavailable,
    Recovering,
    Refusal,
    UnknownParameter,
)

logger: structlog.stdlib.BoundLogger = structlog.get_logger()

# The codes are promised to clients, and listed in docs/api.md.
_KINDS: Final[dict[type[Refusal], tuple[HTTPStatus, str]]] = {
    BadRequest: (HTTPStatus.BAD_REQUEST, "bad_request"),
    BadName: (HTTPStatus.BAD_REQUEST, "bad_name"),
    BadAmount: (HTTPStatus.BAD_REQUEST, "bad_amount"),
    BadConfig: (HTTPStatus.BAD_REQUEST, "bad_config"),
    BadParameter: (HTTPStatus.BAD_REQUEST, "bad_parameter"),
    UnknownParameter: (HTTPStatus.BAD_REQUEST, "unknown_parameter"),
    ForeignOrigin: (HTTPStatus.FORBIDDEN, "foreign_origin"),
    PartLimitReached: (HTTPStatus.CONFLICT, "part_limit"),
    CounterLimitReached: (HTTPStatus.SERVICE_UNAVAILABLE, "counter_limit"),
    IncarnationLimitReached: (HTTPStatus.SERVICE_UNAVAILABLE, "incarnation_limit"),
    DiskFull: (HTTPStatus.SERVICE_UNAVAILABLE, "disk_full"),
    ReadUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "read_unavailable"),
    Recovering: (HTTPStatus.SERVICE_UNAVAILABLE, "recovering"),
}
# Of what is refused before anybody asks what it is about.
_CODES: Final[dict[int, str]] = {
    HTTPStatus.NOT_FOUND: "no_such_route",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "body_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "head_too_large",
    HTTPStatus.NOT_IMPLEMENTED: "unknown_transfer_coding",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "unknown_http_version",
}


def code_of(status: int) -> str:
    """The code of an error of which nothing but its status is known."""
    return _CODES.get(status, "unexpected" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "bad_request")


def problem_body(status: int, code: str, detail: str, **members: object) -> bytes:
    """A problem as JSON; args: as `problem`."""
    phrase = HTTPStatus(status).phrase
    document = {"type": "about:blank", "title": phrase, "status": int(status), "detail": detail, "code": code}
    return json.dumps({**document, **members}).encode() + b"\n"


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None, **members: object) -> Response:
    """A problem as a response.

    Args:
        status: the HTTP status.
        code: a word for programs, which never changes.
        detail: what was wrong and what is allowed, or what to do.
        headers: further header fields, such as Allow.
        members: further members of the problem.
    """
    response = Response(problem_body(status, code, detail, **members), status, content_type="application/problem+json")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    response.headers.update(headers or {})
    return response


def refusal_problem(refusal: Refusal) -> Response:
    """The problem that answers a refused request."""
    kind = next(each for each in type(refusal).mro() if each in _KINDS)
    status, code = _KINDS[kind]
    if isinstance(refusal, ReadUnavailable):
        return problem(status, code, str(refusal), value=refusal.value, missing=refusal.missing)
    return problem(status, code, str(refusal))


def unexpected_problem(error: Exception, path: str) -> Response:
    """The problem that answers a request which nobody foresaw to fail; why, the log has."""
    logger.error("request failed", path=path, exc_info=error)
    detail = "an unexpected error happened in this node; its log has the details"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, code_of(HTTPStatus.INTERNAL_SERVER_ERROR), detail)
