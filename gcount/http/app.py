"""The HTTP API: routes with one line of logic each, and the door for links of other nodes."""

import json
import re
from collections.abc import Callable
from functools import cache, partial
from http import HTTPStatus
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from quart import Request, Response, Websocket, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter, WebsocketMismatch

from gcount.cluster.links.transport import LINK_PATH
from gcount.cluster.links.websocket import WebsocketLink
from gcount.core.state.membership import split_address
from gcount.errors import ForeignOrigin, Refusal
from gcount.http.origins import comes_from_elsewhere
from gcount.http.problems import code_of, problem, refusal_problem, unexpected_problem
from gcount.http.targets import framed_path, split_target
from gcount.node.node import Node
from gcount.node.requests import check_parameters, parse_amount, parse_config, parse_name, parse_timeout
from gcount.node.status import gauges
from gcount.node.status import status as node_status

MAX_BODY = 64 * 1024  # bytes: a config of 128 long host names
BODY_TIMEOUT = 10  # seconds for a whole body to arrive

_ALWAYS_ANSWERED = frozenset({"/ping", "/health/live", "/health/ready", "/metrics"})
_PARAMETERS = {"/counter/<segment:name>/consistent_value": ["timeout"]}  # of each route that has some
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

# The framework has texts of its own, which speak of browsers and proxies.
_DETAILS = {
    HTTPStatus.NOT_FOUND: "no such route; the README lists them all",
    HTTPStatus.REQUEST_TIMEOUT: f"the body did not arrive within {BODY_TIMEOUT} s",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the body is larger than the {MAX_BODY} bytes that are allowed",
}
_MISMATCH_HTTP = (
    "websocket_only",
    f"{LINK_PATH} is for other nodes: only a websocket can be opened here (Upgrade: websocket)",
)
_MISMATCH_WEBSOCKET = "no_websocket", f"no websocket can be opened here; other nodes open one at {LINK_PATH}"
# What the framework has no answer to OPTIONS for: the whole server, also as `OPTIONS *`, and the door for links.
_ALLOWED = {"/": "GET, HEAD, OPTIONS, POST", LINK_PATH: "GET, HEAD, OPTIONS"}
_FOREIGN = "gcount.foreign"  # in a request's scope: whether a page of another origin made it


def make_app(node: Node) -> QuartTrio:
    """The app that answers for a node.

    Args:
        node: may still be recovering; most routes answer 503 until it has.
    """
    node.metrics.watch(partial(gauges, node))
    app = QuartTrio("gcount", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, BODY_TIMEOUT=BODY_TIMEOUT, PROVIDE_AUTOMATIC_OPTIONS=True)
    app.url_map.converters["segment"] = _Segment
    app.url_map.merge_slashes = False
    app.asgi_app = _Plainly(app.asgi_app, partial(_is_own_name, node))  # type: ignore[method-assign]
    _add_counter_routes(app, node)
    _add_operator_routes(app, node)
    _add_link_route(app, node)
    _add_error_handlers(app)

    @app.before_request
    async def before_request() -> Response | None:
        if request.method not in ("GET", "HEAD"):
            _check_origin(request)
        _check_parameters(request)
        if request.path not in _ALWAYS_ANSWERED:
            await node.wait_recovered()
        if request.method == "OPTIONS" and request.path in _ALLOWED:
            return Response("", headers={"Allow": _ALLOWED[request.path]}, content_type="text/plain")
        return None

    @app.before_websocket
    async def before_websocket() -> None:
        _check_origin(websocket)
        _check_parameters(websocket)

    @app.after_request
    async def sort_allowed(response: Response) -> Response:
        if "Allow" in response.headers:  # of OPTIONS it is the order of a set, another one in each process
            response.headers["Allow"] = ", ".join(sorted(response.headers["Allow"].split(", ")))
        return response

    @app.after_request
    async def count(response: Response) -> Response:
        route = _template(request.url_rule.rule) if request.url_rule else "none"
        method = request.method if request.method in _METHODS else "other"
        node.metrics.requests.labels(route, method, str(response.status_code)).inc()
        return response

    return app


class _Segment(BaseConverter):
    """One segment of a path, maybe empty, still percent-encoded."""

    regex = "[^/]*"
    part_isolating = True


class _Plainly:
    """Shows requests to the framework as gcount understands them.

    Routes match the path as it was sent: an encoded slash belongs to a name. The Host means nothing here but to tell
    where a page comes from, and the framework fails on some of them before any handler of errors is in place.

    Args:
        app: the framework's.
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


def _is_own_name(node: Node, name: str) -> bool:
    """Whether it is a name by which an operator called this node, or a member, so that it leads to one."""
    members = node.replica.membership.actors if node.recovered else ()
    return name in [node.settings.host.lower(), *(split_address(address)[0] for address in members)]


def _check_origin(asked: Request | Websocket) -> None:
    if asked.scope.get(_FOREIGN):
        raise ForeignOrigin(
            "a page of another origin made this request; pages may only read (GET, HEAD), all else is for clients that "
            "are no browsers"
        )


def _check_parameters(asked: Request | Websocket) -> None:
    if asked.query_string and asked.url_rule is not None:
        check_parameters(asked.args, _PARAMETERS.get(asked.url_rule.rule, []))


@cache  # there are as many as routes
def _template(rule: str) -> str:
    """A route as the documentation writes it, such as `/counter/{name}/value`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _text(value: object) -> Response:
    return Response(f"{value}\n", content_type="text/plain")


def _json(document: object) -> Response:
    return Response(json.dumps(document) + "\n", content_type="application/json")


async def _body() -> bytes:
    body: bytes = await request.get_data(cache=False, as_text=False)  # type: ignore[assignment]
    return body


def _add_counter_routes(app: QuartTrio, node: Node) -> None:
    @app.post("/counter/<segment:name>")
    async def increment(name: str) -> Response:
        counter = parse_name(name)
        return _text(await node.increment(counter, parse_amount(await _body())))

    @app.get("/counter/<segment:name>/value")
    async def value(name: str) -> Response:
        return _text(node.value(parse_name(name)))

    @app.get("/counter/<segment:name>/consistent_value")
    async def consistent_value(name: str) -> Response:
        counter, timeout = parse_name(name), parse_timeout(request.args.getlist("timeout"))
        return _text(await node.consistent_value(counter, timeout))


def _add_operator_routes(app: QuartTrio, node: Node) -> None:
    @app.post("/config")
    async def configure() -> Response:
        return _json(await node.configure(parse_config(await _body())))

    @app.get("/config")
    async def config() -> Response:
        return _json(node.config())

    @app.get("/ping")
    async def ping() -> Response:
        return Response("pong", content_type="text/plain")

    @app.get("/health/live")
    async def live() -> Response:
        return _text("live")

    @app.get("/health/ready")
    async def ready() -> Response:
        if node.not_ready is not None:
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "disk_full" if node.recovered else "recovering", node.not_ready
            )
        return _text("ready")

    @app.get("/status")
    async def status() -> Response:
        return _json(node_status(node))

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(node.metrics.text(), content_type=CONTENT_TYPE_LATEST)


def _add_link_route(app: QuartTrio, node: Node) -> None:
    @app.websocket(LINK_PATH)
    async def link() -> Response | None:
        if not node.recovered:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "recovering", "the node has not finished its start")
        connection = websocket.scope["state"]["connection"]
        connection.take_over()
        await websocket.accept()
        accepted = WebsocketLink(connection, dialled=False)
        await node.accept(accepted, websocket.remote_addr or "unknown", connection.become_link)
        await websocket.close(1000)
        return None


def _add_error_handlers(app: QuartTrio) -> None:
    @app.errorhandler(Refusal)
    async def refused(refusal: Refusal) -> Response:
        return refusal_problem(refusal)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        status, headers = HTTPStatus(error.code or 500), {}
        code = code_of(status)
        detail = _DETAILS.get(status, "the request can't be answered; the README lists those that can")
        if isinstance(error, MethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.valid_methods or []))
            detail = f"this method is not allowed here; allowed: {headers['Allow']}"
        elif isinstance(error, WebsocketMismatch):
            code, detail = _MISMATCH_HTTP if has_request_context() else _MISMATCH_WEBSOCKET
        return problem(status, code, detail, headers)

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        path = request.path if has_request_context() else websocket.path
        return unexpected_problem(error, path)
