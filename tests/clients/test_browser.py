"""Pages of other origins in a real browser: they try to configure, to count and to open a link, and change nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.clients.chromium import CHROMIUM, Page, page
from tests.harness.cluster import configure, running
from tests.harness.processes import Node

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")

ELSEWHERE = "evil.example"  # leads to the machine of the test, as any page's host may
CONFIG = json.dumps({"actors": ["127.0.0.9"]})
PAGE = b"<!doctype html><title>a page</title><body>of another origin"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"

# A form's plain text is `name=value`: JSON that has the sign in one of its strings.
FORM = """
new Promise((done) => {
  const frame = Object.assign(document.createElement("iframe"), {name: ACTION});
  document.body.append(frame);
  const form = Object.assign(document.createElement("form"),
    {method: "POST", enctype: "text/plain", action: ACTION, target: ACTION});
  form.append(Object.assign(document.createElement("input"), {name: NAME, value: VALUE}));
  document.body.append(form);
  frame.onload = () => done("answered");
  form.submit();
})
"""
FETCH = """
fetch(TARGET, OPTIONS).then((answer) => [answer.type, answer.status], (error) => ["failed", error.name])
"""
SOCKET = """
new Promise((done) => {
  const socket = new WebSocket(TARGET);
  socket.onopen = () => done("open");
  socket.onclose = () => done("refused");
})
"""
# A page inside a page, of no origin at all.
SANDBOX = """
new Promise((done) => {
  addEventListener("message", (event) => done(event.data));
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.srcdoc = `<script>fetch(TARGET, {method: "POST", mode: "no-cors", body: "1"})
    .then((answer) => parent.postMessage(answer.type, "*"), (error) => parent.postMessage(error.name, "*"))</script>`;
  document.body.append(frame);
})
"""


def script(text: str, **given: object) -> str:
    for name, value in given.items():
        text = text.replace(name, json.dumps(value))
    return text


async def serve_page(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.receive_some()
        await stream.send_all(ANSWER % (len(PAGE), PAGE))


@asynccontextmanager
async def site() -> AsyncIterator[int]:
    """A server of another page, for as long as the context lasts; its port."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve_page, 0)
        yield int(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(base: Path) -> AsyncIterator[tuple[Node, Page, int]]:
    """A node, a browser, and the port of a page."""
    node = Node(1, "127.0.0.1", 0, base / "data")
    async with running(node), site() as port, page(base / "browser", ELSEWHERE) as tab:
        await configure(node, [node])
        yield node, tab, port


async def refused(node: Node) -> float:
    """How many requests the node has refused because of their origin, on all routes."""
    lines = (await node.get("/metrics")).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if "_http_requests_total{" in line and 'status="403"' in line)


async def state(node: Node) -> list[Any]:
    config = await node.config()
    return [
        config["actors"],
        config["version"],
        [await node.value(name) for name in ("form", "fetch", "beacon", "null")],
    ]


async def try_all(tab: Page, target: str, *, own: bool = False) -> None:
    """Try all ways in which a page can make its browser send something to a node."""
    name, value = CONFIG[:-1] + ', "a": "', '"}'
    assert await tab.run(script(FORM, ACTION=f"{target}/config", NAME=name, VALUE=value)) == "answered"
    assert await tab.run(script(FORM, ACTION=f"{target}/counter/form", NAME="1", VALUE="")) == "answered"
    for path, body in (("/config", CONFIG), ("/counter/fetch", "1")):
        plain = {"method": "POST", "mode": "no-cors", "body": body}
        assert await tab.run(script(FETCH, TARGET=target + path, OPTIONS=plain)) == (
            ["basic", 403] if own else ["opaque", 0]
        )
        asked = {"method": "POST", "body": body, "headers": {"Content-Type": "application/json"}}
        assert await tab.run(script(FETCH, TARGET=target + path, OPTIONS=asked)) == (
            ["basic", 403] if own else ["failed", "TypeError"]
        )
    assert await tab.run(script("navigator.sendBeacon(TARGET, '1')", TARGET=f"{target}/counter/beacon"))
    assert await tab.run(script(SANDBOX, TARGET=f"{target}/counter/null")) == "opaque"
    assert await tab.run(script(SOCKET, TARGET=f"{target.replace('http', 'ws', 1)}/link")) == "refused"


@pytest.mark.parametrize("host", [ELSEWHERE, "127.0.0.1"], ids=["another site", "another port"])
async def test_a_page_of_another_origin_changes_nothing(tmp_path: Path, host: str) -> None:
    async with opened(tmp_path) as (node, tab, port):
        before = await state(node)
        await tab.open(f"http://{host}:{port}/")
        target = f"http://127.0.0.1:{node.port}"
        await try_all(tab, target)
        assert await state(node) == before
        assert before[2] == [0, 0, 0, 0]
        assert await node.metric('gcount_connections{kind="link"}') == 0
        # Two forms, two plain requests, two that were asked for first (OPTIONS), a beacon, a page of no origin. (The
        # node counts no websockets.) So it was the node that refused, and not the browser.
        assert await refused(node) == 8
        reading = {"mode": "cors"}
        read = await tab.run(script(FETCH, TARGET=f"{target}/counter/fetch/value", OPTIONS=reading))
        assert read == ["failed", "TypeError"]  # it was answered, and the browser keeps the answer from the page


async def test_a_page_of_a_name_that_was_made_to_lead_here_changes_nothing(tmp_path: Path) -> None:
    """For the browser this page is of the node's own origin, as after DNS rebinding."""
    async with opened(tmp_path) as (node, tab, _):
        before = await state(node)
        target = f"http://{ELSEWHERE}:{node.port}"
        await tab.open(f"{target}/ping")
        await try_all(tab, target, own=True)
        assert await state(node) == before
        assert await refused(node) == 8


async def test_a_page_of_the_nodes_own_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, tab, _):
        await tab.open(f"http://127.0.0.1:{node.port}/ping")
        counting = {"method": "POST", "body": "2"}
        target = f"http://127.0.0.1:{node.port}/counter/own%2Fpage"
        assert await tab.run(script(FETCH, TARGET=target, OPTIONS=counting)) == ["basic", 200]
        assert await node.value("own%2Fpage") == 2
