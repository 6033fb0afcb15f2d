"""The one table of routes: the application, the fast parser, the metrics and `Allow` are made from it.

A new route needs a line here, a handler, and a section in docs/api.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

from prometheus_client import CONTENT_TYPE_LATEST

from gcount.cluster.links.transport import LINK_PATH
from gcount.errors import (
    BadAmount,
    BadConfig,
    BadId,
    BadName,
    BadParameter,
    CounterLimitReached,
    DiskFull,
    IdAhead,
    IdConflict,
    IdGone,
    IdLimitReached,
    IdsUnavailable,
    IdUnknown,
    IncarnationLimitReached,
    PartLimitReached,
    ReadUnavailable,
    Recovering,
    Refusal,
)
from gcount.http import handlers
from gcount.http.answers import JSON, TEXT, Answer
from gcount.http.handlers import Call
from gcount.node.node import Node

Handler = Callable[[Node, Call], Awaitable[Answer | None]]


@dataclass(frozen=True)
class Parameter:
    """A part of a request that its client chooses.

    Attributes:
        name: its name in the template, in the header or in the query; the name of a body is only for people.
        place: where it is in the request.
        about: what it means, and which values are allowed.
    """

    name: str
    place: Literal["path", "field", "query", "body"]
    about: str


@dataclass(frozen=True)
class Success:
    """The answer to a request that succeeded.

    Attributes:
        content_type: the media type of the body; empty if there is none.
        about: what the body contains.
        status: the HTTP status.
    """

    content_type: str
    about: str
    status: HTTPStatus = HTTPStatus.OK


@dataclass(frozen=True, eq=False)  # compared by identity: that is fast, and each request looks a route up
class Route:
    """A route, declared once for everything that has to know it.

    Attributes:
        method: its method; GET also answers HEAD.
        template: its path, as in the documentation and in the metrics; a part in braces is a parameter.
        parameters: its parameters. Any other query parameter is refused.
        answers: its successful answer, and its own refusals. Besides, any route may refuse a request of a page of
            another origin, or with an unknown query parameter. All routes that are not early refuse requests while the
            node recovers.
        handler: answers a request; the handler of a websocket returns None.
        fast: whether the fast path answers plain requests for it.
        early: whether it is answered before the node has recovered.
        websocket: whether it opens a websocket.
    """

    method: str
    template: str
    parameters: tuple[Parameter, ...]
    answers: tuple[Success | type[Refusal], ...]
    handler: Handler
    fast: bool = False
    early: bool = False
    websocket: bool = False

    @property
    def key(self) -> str:
        """The method and the template: no two routes share both."""
        return f"{self.method} {self.template}"

    @property
    def query(self) -> tuple[str, ...]:
        """The names of its query parameters."""
        return tuple(parameter.name for parameter in self.parameters if parameter.place == "query")


_NAME: Final = Parameter("name", "path", "the counter: 1 to 255 bytes of UTF-8, no control characters, percent-encoded")
_AMOUNT: Final = Parameter("amount", "body", "what to add: a whole number from 0 to 2^64-1 in ASCII digits")
_KEY: Final = Parameter("Idempotency-Key", "field", "the increment's id, bare or in quotes: sent again, it counts once")
_ID: Final = Parameter("id", "path", "the source: a UUIDv7, a ULID or UNIXSECONDS-anything, 64 characters at most")
_TOTAL: Final = Parameter(
    "total", "body", "what the source has added so far: a whole number from 0 to 2^64-1 in digits"
)
_TIMEOUT: Final = Parameter("timeout", "query", "seconds to try, above 0, 60 at most; by default CHALLENGE_TIMEOUT")
_MEMBERS: Final = Parameter("members", "body", 'JSON, {"actors": ["HOST[:PORT]", ...]}: all members of the cluster')
_VALUE: Final = Success(TEXT, "the counter's value")
_MEMBERSHIP: Final = Success(JSON, "the membership in force, and which entry this node is")

# The refusals of what counts, and of an id that is not known.
_COUNTING: Final = (PartLimitReached, CounterLimitReached, IncarnationLimitReached, DiskFull)
_NEW_ID: Final = (IdGone, IdAhead, IdLimitReached, IdsUnavailable)

INCREMENT: Final = Route(
    "POST",
    "/counter/{name}",
    (_NAME, _KEY, _AMOUNT),
    (_VALUE, BadName, BadAmount, BadId, IdConflict, *_COUNTING, *_NEW_ID),
    handlers.increment,
    fast=True,
)
VALUE: Final = Route("GET", "/counter/{name}/value", (_NAME,), (_VALUE, BadName), handlers.value, fast=True)
CONSISTENT_VALUE: Final = Route(
    "GET",
    "/counter/{name}/consistent_value",
    (_NAME, _TIMEOUT),
    (_VALUE, BadName, BadParameter, ReadUnavailable),
    handlers.consistent_value,
    fast=True,
)
RAISE_SOURCE: Final = Route(
    "PUT",
    "/counter/{name}/sources/{id}",
    (_NAME, _ID, _TOTAL),
    (_VALUE, BadName, BadAmount, BadId, *_COUNTING, *_NEW_ID),
    handlers.raise_source,
    fast=True,
)
SOURCE: Final = Route(
    "GET",
    "/counter/{name}/sources/{id}",
    (_NAME, _ID),
    (Success(TEXT, "what the source has added, as this node knows it"), BadName, BadId, IdUnknown),
    handlers.source,
    fast=True,
)
LINK: Final = Route(
    "GET",
    LINK_PATH,
    (),
    (Success("", "a websocket, for other nodes", HTTPStatus.SWITCHING_PROTOCOLS),),
    handlers.link,
    websocket=True,
)

ROUTES: Final = (
    INCREMENT,
    VALUE,
    CONSISTENT_VALUE,
    RAISE_SOURCE,
    SOURCE,
    Route("POST", "/config", (_MEMBERS,), (_MEMBERSHIP, BadConfig, DiskFull), handlers.configure),
    Route("GET", "/config", (), (_MEMBERSHIP,), handlers.config),
    Route("GET", "/ping", (), (Success(TEXT, "pong"),), handlers.ping, early=True),
    Route("GET", "/health/live", (), (Success(TEXT, "live"),), handlers.live, early=True),
    Route("GET", "/health/ready", (), (Success(TEXT, "ready"), Recovering, DiskFull), handlers.ready, early=True),
    Route("GET", "/status", (), (Success(JSON, "the state of the node"),), handlers.status),
    Route("GET", "/metrics", (), (Success(CONTENT_TYPE_LATEST, "metrics"),), handlers.metrics, early=True),
    LINK,
)
BY_KEY: Final[Mapping[str, Route]] = {route.key: route for route in ROUTES}
assert len(BY_KEY) == len(ROUTES), "two routes share a method and a path"
EARLY_PATHS: Final = frozenset(route.template for route in ROUTES if route.early)


def allow(*routes: Route) -> str:
    """The value of `Allow` for a path with these routes."""
    methods = {route.method for route in routes}
    return ", ".join(sorted({"OPTIONS", *methods, *(["HEAD"] if "GET" in methods else [])}))


# The answers to OPTIONS that the framework does not give: for the whole server, also as `OPTIONS *`, and for links.
OPTIONS: Final[Mapping[str, str]] = {"/": allow(*ROUTES), LINK.template: allow(LINK)}
