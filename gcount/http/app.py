"""The application behind the fast path: it answers every route of the table, and every kind of request for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from quart import Request, Response, Websocket, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter, WebsocketMismatch

from gcount.cluster.links.websocket import WebsocketLink
from gcount.core.state.membership import split_address
from gcount.errors import ForeignOrigin, Refusal
from gcount.http.handlers import ServeLink
from gcount.http.origins import comes_from_elsewhere
from gcount.http.parameters import check_parameters
from gcount.http.problems import Problem, problem_of_error, problem_of_refusal, problem_of_status
from gcount.http.routes import BY_KEY, EARLY_PATHS, LINK, OPTIONS, ROUTES, Route
from gcount.http.targets import framed_path, split_target
from gcount.node.node import Node
from gcount.node.status import gauges

MAX_BODY = 64 * 1024  # bytes: enough for a config of 128 long host names
BODY_TIMEOUT = 10  # seconds in which a whole body has to arrive

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

# They replace the framework's own texts, which are written for people with a browser.
_DETAILS = {
    HTTPStatus.NOT_FOUND: "no such route; the README lists them all; a / in a counter's name is written %2F",
    HTTPStatus.REQUEST_TIMEOUT: f"the body did not arrive within {BODY_TIMEOUT} s",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the body is larger than the {MAX_BODY} bytes that are allowed",
}
_MISMATCH_HTTP = Problem(
    HTTPStatus.BAD_REQUEST,
    "websocket_only",
    f"{LINK.template} is for other nodes: only a websocket can be opened here (Upgrade: websocket)",
)
_MISMATCH_WEBSOCKET = Problem(
    HTTPStatus.BAD_REQUEST,
    "no_websocket",
    f"no websocket can be opened here; other nodes open one at {LINK.template}",
)
_FOREIGN = "gcount.foreign"  # a key of a request's scope: whether a page of another origin made the request


def make_app(node: Node) -> QuartTrio:
    """The application that answers the requests of a node's clients.

    Args:
        node: may still be recovering; most routes answer 503 until it has recovered.
    """
    node.metrics.watch(partial(gauges, node))
    app = QuartTrio("gcount", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, BODY_TIMEOUT=BODY_TIMEOUT, PROVIDE_AUTOMATIC_OPTIONS=True)
    app.url_map.converters["segment"] = _Segment
    app.url_map.merge_slashes = False
    app.asgi_app = _AsSent(app.asgi_app, partial(_is_own_name, node))  # type: ignore[method-assign]
    for route in ROUTES:
        _add_route(app, node, route)
    _add_error_handlers(app)

    @app.before_request
    async def before_request() -> Response | None:
        if request.method not in ("GET", "HEAD"):
            _check_origin(request)
        options = OPTIONS.get(request.path) if request.method == "OPTIONS" else None
        _check_parameters(request, is_known=options is not None)
        if request.path not in EARLY_PATHS:
            await node.wait_recovered()
        return Response("", headers={"Allow": options}, content_type="text/plain") if options is not None else None

    @app.before_websocket
    async def before_websocket() -> None:
        _check_origin(websocket)
        _check_parameters(websocket)

    @app.after_request
    async def sort_allowed(response: Response) -> Response:
        if "Allow" in response.headers:  # the answer to OPTIONS has the order of a set, which differs by process
            response.headers["Allow"] = ", ".join(sorted(response.headers["Allow"].split(", ")))
        return response

    @app.after_request
    async def count(response: Response) -> Response:
        route = _route_of(request)
        method = request.method if request.method in _METHODS else "other"
        template = "none" if route is None else route.template
        node.metrics.requests.labels(template, method, str(response.status_code)).inc()
        return response

    return app


class _Segment(BaseConverter):
    """Matches one segment of a path, which may be empty, and leaves it percent-encoded."""

    regex = "[^/]*"
    part_isolating = True


class _AsSent:
    """Middleware that shows the framework each request as it was sent.

    Routes match the path as it was sent, because an encoded slash belongs to a name. The framework gets a fixed Host:
    it fails on some values before its error handlers are in place. gcount needs the real one only to find out whether
    a page of another origin made the request, and does that here.

    Args:
        app: the framework's application.
        is_own_name: whether a host name is the node's.
    """

    def __init__(self, app: Any, is_own_name: Callable[[str], bool]) -> None:
        self._app = app
        self._is_own_name = is_own_name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        target = split_target(scope["raw_path"]) if "raw_path" in scope else None
        if target is not None:
            fields, (host, path) = scope["headers"], target
            hosts = [value for name, value in fields if name == b"host"] if host is None else [host]
            scope = {
                **scope,
                "path": "/" if path == b"*" else framed_path(path),
                "headers": [(b"host", b"gcount"), *(field for field in fields if field[0] != b"host")],
                _FOREIGN: comes_from_elsewhere(fields, hosts[0] if len(hosts) == 1 else None, self._is_own_name),
            }
        await self._app(scope, receive, send)


class _QuartCall:
    """A request of the framework, or an upgrade to a websocket, as handlers see it; see `Call`."""

    def __init__(self, segments: Mapping[str, str]) -> None:
        self.segments = segments

    def fields(self, name: str) -> Sequence[str]:
        return request.headers.getlist(name)

    def values(self, parameter: str) -> Sequence[str]:
        return request.args.getlist(parameter)

    async def body(self) -> bytes:
        body: bytes = await request.get_data(cache=False, as_text=False)  # type: ignore[assignment]
        return body

    async def serve_link(self, serve: ServeLink) -> None:
        connection = websocket.scope["state"]["connection"]
        stream = connection.take_over()
        await websocket.accept()
        accepted = WebsocketLink(stream, dialled=False)
        await serve(accepted, websocket.remote_addr or "unknown", connection.become_link)
        await websocket.close(1000)


def _is_own_name(node: Node, name: str) -> bool:
    """Whether an operator has given this name to the node or to a member: a page at this name is then a node's own."""
    members = node.replica.membership.actors if node.recovered else ()
    return name in [node.settings.host.lower(), *(split_address(address)[0] for address in members)]


def _check_origin(asked: Request | Websocket) -> None:
    if asked.scope.get(_FOREIGN):
        raise ForeignOrigin(
            "a page of another origin made this request; such pages may only read (GET, HEAD): use a client that is no "
            "browser for anything else"
        )


def _check_parameters(asked: Request | Websocket, *, is_known: bool = False) -> None:
    """Refuse query parameters that the route does not know.

    Args:
        asked: the request.
        is_known: whether the request has an answer although no route of the framework matches, as OPTIONS may have.
    """
    route = _route_of(asked)
    if asked.query_string and (route is not None or is_known):
        check_parameters(asked.args, () if route is None else route.query)


def _route_of(asked: Request | Websocket) -> Route | None:
    return None if asked.url_rule is None else BY_KEY[asked.url_rule.endpoint]


def _add_route(app: QuartTrio, node: Node, route: Route) -> None:
    rule = route.template.replace("{", "<segment:").replace("}", ">")

    async def view(**segments: str) -> Response:
        answer = await route.handler(node, _QuartCall(segments))
        assert answer is not None, f"{route.key} opens no websocket, and has no answer"
        return Response(answer.body, headers=dict(answer.fields), content_type=answer.content_type)

    async def serve_websocket() -> None:
        await route.handler(node, _QuartCall({}))

    if route.websocket:
        app.add_websocket(rule, route.key, serve_websocket)
    else:
        app.add_url_rule(rule, route.key, view, methods=[route.method])


def _add_error_handlers(app: QuartTrio) -> None:
    @app.errorhandler(Refusal)
    async def refused(refusal: Refusal) -> Response:
        return _render(problem_of_refusal(refusal))

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        return _render(_problem_of_framework(error))

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        return _render(problem_of_error(error, request.path if has_request_context() else websocket.path))


def _problem_of_framework(error: HTTPException) -> Problem:
    """The problem of a request that the framework refuses, in gcount's words."""
    if isinstance(error, WebsocketMismatch):
        return _MISMATCH_HTTP if has_request_context() else _MISMATCH_WEBSOCKET
    status = HTTPStatus(error.code or 500)
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or []))
        return problem_of_status(status, f"this method is not allowed here; allowed: {allowed}", {"Allow": allowed})
    return problem_of_status(
        status, _DETAILS.get(status, "the request can't be answered; the README lists those that can")
    )


def _render(problem: Problem) -> Response:
    fields = dict(problem.fields)
    response = Response(problem.body, problem.status, content_type=fields.pop("content-type"))
    response.headers.update(fields)
    return response
