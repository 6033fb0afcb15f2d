"""The table of routes: the application, the metrics, the fast parser, `Allow` and the documentation agree with it."""

from __future__ import annotations

import dataclasses
import re
from http import HTTPStatus
from pathlib import Path

import pytest

from gcount.errors import Refusal
from gcount.http.fast_parser import parse
from gcount.http.routes import (
    BY_KEY,
    CONSISTENT_VALUE,
    EARLY_PATHS,
    INCREMENT,
    OPTIONS,
    RAISE_SOURCE,
    ROUTES,
    SOURCE,
    VALUE,
    Route,
    Success,
    allow,
)
from tests.fakes.cluster import WALL_CLOCK
from tests.harness.websocket import upgrade
from tests.http.served_node import PATHS, get, post, served, statuses

ROOT = Path(__file__).resolve().parents[2]
# A route in a table or a heading: a path that begins a quotation, after its method if that is not GET.
NAMED = re.compile(r"(?:`|^### )(?:(GET|POST|PUT|DELETE) )?(/[A-Za-z_/]*)(?=[`\[\s]|$)")
ID = f"{WALL_CLOCK:.0f}-a"
BODIES = {"/config": b'{"actors": ["10.0.0.1"]}'}


def documented(page: str) -> set[str]:
    """The routes that the tables and the headings of a page name, as the table of routes has them."""
    found = set()
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith(("| ", "### ")):
            for method, path in NAMED.findall(line):
                found.add(f"{method or 'GET'} {path.replace('NAME', '{name}').replace('/ID', '/{id}')}")
    return found


def target_of(route: Route) -> bytes:
    return route.template.replace("{name}", "a").replace("{id}", ID).encode()


def request_to(route: Route) -> bytes:
    path = target_of(route)
    if route.websocket:
        return upgrade(route.template, "h")
    if route.method == "GET":
        return get(path)
    request = post(b"a", BODIES.get(route.template, b"1"))
    return request.replace(b"POST /counter/a", route.method.encode() + b" " + path)


def test_each_route_is_declared_once() -> None:
    assert len(BY_KEY) == len(ROUTES)
    assert all(BY_KEY[route.key] is route for route in ROUTES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        VALUE.method = "POST"  # type: ignore[misc]


def test_the_pages_name_every_route_and_no_other() -> None:
    assert documented("README.md") == set(BY_KEY)
    assert documented("docs/api.md") == set(BY_KEY)


def test_a_template_s_parameters_are_those_that_are_declared() -> None:
    for route in ROUTES:
        in_path = [parameter.name for parameter in route.parameters if parameter.place == "path"]
        assert re.findall(r"\{(\w+)\}", route.template) == in_path
        assert ("body" in [parameter.place for parameter in route.parameters]) == (route.method != "GET")
        assert all(parameter.about for parameter in route.parameters)


def test_answers_are_one_success_and_refusals() -> None:
    for route in ROUTES:
        first, *refusals = route.answers
        assert isinstance(first, Success)
        assert first.status == (HTTPStatus.SWITCHING_PROTOCOLS if route.websocket else HTTPStatus.OK)
        assert all(isinstance(kind, type) and issubclass(kind, Refusal) for kind in refusals)


def test_early_routes_have_one_path() -> None:
    """Their paths are looked up as they are sent, before the request is parsed further."""
    assert not any("{" in path for path in EARLY_PATHS)
    assert all(route.early == (route.template in EARLY_PATHS) for route in ROUTES)


def test_allow_is_sorted_and_knows_what_the_framework_adds() -> None:
    assert allow(INCREMENT) == "OPTIONS, POST"
    assert allow(VALUE) == "GET, HEAD, OPTIONS"
    assert OPTIONS == {"/": "GET, HEAD, OPTIONS, POST, PUT", "/link": "GET, HEAD, OPTIONS"}


def test_the_fast_parser_takes_what_the_table_calls_fast_and_nothing_else() -> None:
    fast = {route for route in ROUTES if route.fast}
    assert fast == {INCREMENT, VALUE, CONSISTENT_VALUE, RAISE_SOURCE, SOURCE}, "the fast path knows these"
    for route in ROUTES:
        request = parse(request_to(route))
        assert (request is not None) == route.fast
        assert request is None or request.route is route


@pytest.mark.parametrize("path", PATHS)
async def test_each_route_is_answered_and_counted_by_its_template(path: str) -> None:
    plain = [route for route in ROUTES if not route.websocket]
    async with served(path) as server:
        client = await server.dial()
        for route in plain:
            await client.send(request_to(route))
            assert statuses(await client.answer()) == [200], route.key
        await client.stream.aclose()
        assert server.counts() == sorted(
            f'gcount_http_requests_total{{method="{route.method}",route="{route.template}",status="200"}} 1.0'
            for route in plain
        )


@pytest.mark.parametrize("path", PATHS)
async def test_options_and_refused_methods_say_what_the_table_allows(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        for route in ROUTES:
            target = target_of(route)
            allowed = allow(*[each for each in ROUTES if each.template == route.template])
            for method, status in ((b"OPTIONS", 200), (b"DELETE", 405)):
                await client.send(get(target, method=method))
                answer = await client.answer()
                assert statuses(answer) == [status]
                assert f"\r\nallow: {allowed}\r\n".encode() in answer
        await client.stream.aclose()


@pytest.mark.parametrize("path", PATHS)
async def test_only_early_routes_are_answered_before_the_node_has_recovered(path: str) -> None:
    async with served(path, recovered=False) as server:
        for route in ROUTES:
            client = await server.dial()
            await client.send(request_to(route))
            expected = 503 if not route.early or route.template == "/health/ready" else 200
            assert statuses(await client.answer()) == [expected], route.key
            await client.stream.aclose()


@pytest.mark.parametrize("path", PATHS)
async def test_query_parameters_that_a_route_does_not_know_are_refused_by_all_methods(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        for target in (b"/", b"/link", b"/ping", b"/counter/a/value", b"/config"):
            await client.send(get(target + b"?x=1", method=b"OPTIONS"))
            answer = await client.answer()
            assert statuses(answer) == [400]
            assert b'"code": "unknown_parameter"' in answer
            await client.send(get(target + b"?", method=b"OPTIONS"))
            assert statuses(await client.answer()) == [200]
        await client.stream.aclose()
