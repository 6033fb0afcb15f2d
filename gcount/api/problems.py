"""Errors as RFC 9457 problems: one place that turns what went wrong into a status and a body."""

import json
from http import HTTPStatus

import structlog
from quart import Response

from gcount.errors import (
    BadRequest,
    CounterLimitReached,
    DiskFull,
    IncarnationLimitReached,
    PartLimitReached,
    ReadUnavailable,
    Recovering,
    Refusal,
)

logger: structlog.stdlib.BoundLogger = structlog.get_logger()

_STATUS: dict[type[Refusal], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    PartLimitReached: HTTPStatus.CONFLICT,
    CounterLimitReached: HTTPStatus.SERVICE_UNAVAILABLE,
    IncarnationLimitReached: HTTPStatus.SERVICE_UNAVAILABLE,
    DiskFull: HTTPStatus.SERVICE_UNAVAILABLE,
    ReadUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Recovering: HTTPStatus.SERVICE_UNAVAILABLE,
}


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **members: object) -> Response:
    """A problem as a response.

    Args:
        status: the HTTP status.
        detail: what was wrong and what is allowed, or what to do.
        headers: further header fields, such as Allow.
        members: further members of the problem.
    """
    phrase = HTTPStatus(status).phrase
    document = {"type": "about:blank", "title": phrase, "status": int(status), "detail": detail, **members}
    response = Response(json.dumps(document) + "\n", status, content_type="application/problem+json")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    response.headers.update(headers or {})
    return response


def refusal_problem(refusal: Refusal) -> Response:
    """The problem that answers a refused request."""
    if isinstance(refusal, ReadUnavailable):
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(refusal), value=refusal.value, missing=refusal.missing)
    return problem(_STATUS[type(refusal)], str(refusal))


def unexpected_problem(error: Exception, path: str) -> Response:
    """The problem that answers a request which nobody foresaw to fail; why, the log has."""
    logger.error("request failed", path=path, exc_info=error)
    detail = "an unexpected error happened in this node; its log has the details"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
