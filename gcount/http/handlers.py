"""The handlers of the routes. Each has a line or two of logic, and knows nothing of the framework."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST

from gcount.cluster.links.transport import Link
from gcount.core.writes.increments import Add, Outcome, Raise
from gcount.errors import DiskFull, Recovering, Refusal
from gcount.http.answers import REPLAYED, TEXT, Answer, json_document, text
from gcount.http.parameters import id_in_path, idempotency_key, name_in_path, parse_config, timeout_parameter
from gcount.node import status as node_status
from gcount.node.node import Node
from gcount.node.requests import parse_amount
from gcount.node.view import NodeView

# Serves a link until it ends. Its arguments are the link, the address of its other end, and a function that turns the
# connection into a link and returns whether that was possible.
ServeLink = Callable[[Link, str, Callable[[], bool]], Awaitable[None]]


class Call(Protocol):
    """A request, as a handler sees it.

    Attributes:
        segments: the parts of its path that are parameters of its route, percent-encoded, by the parameters' names.
    """

    @property
    def segments(self) -> Mapping[str, str]: ...

    def fields(self, name: str) -> Sequence[str]:
        """The values of a header field, in their order; the case of its name makes no difference."""

    def values(self, parameter: str) -> Sequence[str]:
        """The values of a query parameter, in their order."""

    async def body(self) -> bytes:
        """The whole body; it is received now."""

    async def serve_link(self, serve: ServeLink) -> None:
        """Open the websocket that the request asks for, serve it as a link, and close it."""


async def increment(node: Node, call: Call) -> Answer:
    """Increment a counter; by an id, if the request has one."""
    name, id_ = name_in_path(call.segments["name"]), idempotency_key(call.fields("idempotency-key"))
    amount = parse_amount(await call.body(), "the body")
    outcome = await node.count([Add(name, amount) if id_ is None else Raise(name, id_, amount, once=True)])
    return text(_value(outcome), dict([REPLAYED]) if outcome.replayed else None)


async def raise_source(node: Node, call: Call) -> Answer:
    """Raise what a source has added to a counter."""
    name, id_ = name_in_path(call.segments["name"]), id_in_path(call.segments["id"])
    return text(_value(await node.count([Raise(name, id_, parse_amount(await call.body(), "the body"))])))


async def source(node: Node, call: Call) -> Answer:
    """Read what a source, or any other id, has added to a counter, as this node knows it."""
    return text(NodeView(node).id_total(name_in_path(call.segments["name"]), id_in_path(call.segments["id"])))


def _value(outcome: Outcome) -> int:
    """The value after a request with one item.

    Raises:
        Refusal: it was refused.
    """
    [value] = outcome.values
    if isinstance(value, Refusal):
        raise value
    return value


async def value(node: Node, call: Call) -> Answer:
    """Read the value that this node knows."""
    return text(node.value(name_in_path(call.segments["name"])))


async def consistent_value(node: Node, call: Call) -> Answer:
    """Read the exact value in the whole cluster."""
    name = name_in_path(call.segments["name"])
    return text(await node.consistent_value(name, timeout_parameter(call.values("timeout"))))


async def configure(node: Node, call: Call) -> Answer:
    """Put a membership in force."""
    return json_document(await node.configure(parse_config(await call.body())))


async def config(node: Node, _call: Call) -> Answer:
    """Show the membership in force."""
    return json_document(node.config())


async def ping(_node: Node, _call: Call) -> Answer:
    """Answer `pong`, without a newline."""
    return Answer(b"pong", TEXT)


async def live(_node: Node, _call: Call) -> Answer:
    """Answer that the process works."""
    return text("live")


async def ready(node: Node, _call: Call) -> Answer:
    """Answer whether the node takes increments."""
    if node.not_ready is not None:
        raise (DiskFull if node.recovered else Recovering)(node.not_ready)
    return text("ready")


async def status(node: Node, _call: Call) -> Answer:
    """Show the state of the node as JSON."""
    return json_document(node_status.status(node))


async def metrics(node: Node, _call: Call) -> Answer:
    """Show the metrics of the node in Prometheus' text format."""
    return Answer(node.metrics.text(), CONTENT_TYPE_LATEST)


async def link(node: Node, call: Call) -> None:
    """Serve a link that another node dialled."""
    if not node.recovered:
        raise Recovering("the node has not finished its start")
    await call.serve_link(node.accept)
