"""Pages in a browser may read and change nothing: which pages are the node's own, and which requests are refused."""

from __future__ import annotations

import json

import pytest

from gcount.http.origins import comes_from_elsewhere
from tests.harness.websocket import upgrade
from tests.http.served_node import ADDRESS, PATHS, get, post, served, statuses

KNOWN = {"node-one.example", "10.0.0.9"}
OWN = [  # the Host, and the origin of a page of the node's own
    ("127.0.0.1:7777", "http://127.0.0.1:7777"),
    ("localhost:7777", "http://localhost:7777"),
    ("LocalHost:7777", "HTTP://LOCALHOST:7777"),
    ("10.0.0.1", "http://10.0.0.1"),
    ("10.0.0.1:80", "http://10.0.0.1"),
    ("10.0.0.1", "http://10.0.0.1:80"),
    ("10.0.0.1:", "http://10.0.0.1"),
    ("[::1]:7777", "http://[::1]:7777"),
    ("[0:0::1]:7777", "http://[::1]:07777"),
    ("[FE80::A]", "http://[fe80::a]"),
    ("node-one.example:7777", "http://Node-One.example:7777"),
]
ELSEWHERE = [
    ("127.0.0.1:7777", "null"),
    ("127.0.0.1:7777", ""),
    ("127.0.0.1:7777", "http://evil.example"),
    ("127.0.0.1:7777", "http://127.0.0.1"),
    ("127.0.0.1:7777", "http://127.0.0.1:8000"),
    ("127.0.0.1:7777", "http://localhost:7777"),
    ("127.0.0.1:7777", "https://127.0.0.1:7777"),
    ("127.0.0.1:7777", "//127.0.0.1:7777"),
    ("127.0.0.1:7777", "127.0.0.1:7777"),
    ("127.0.0.1:7777", "http://127.0.0.1:7777/"),
    ("127.0.0.1:7777", "http://127.0.0.1:7777, http://evil.example"),
    ("127.0.0.1:7777", "http://127.0.0.1:7777 http://127.0.0.1:7777"),
    ("127.0.0.1:7777", "http://user@127.0.0.1:7777"),
    ("127.0.0.1:7777", "http://127.0.0.1:7777.evil.example"),
    ("[::1]:7777", "http://[::2]:7777"),
    ("[::1", "http://[::1"),
    ("", "http://"),
    ("a b", "http://a b"),
    # A name that its owner has made lead here.
    ("evil.example:7777", "http://evil.example:7777"),
    ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example"),
    ("2130706433", "http://2130706433"),
    ("localhost.evil.example", "http://localhost.evil.example"),
]


def elsewhere(host: str | None, *fields: tuple[str, str]) -> bool:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    return comes_from_elsewhere(raw, None if host is None else host.encode("latin-1"), KNOWN.__contains__)


@pytest.mark.parametrize(("host", "origin"), OWN)
def test_a_page_from_the_address_that_is_asked_is_the_nodes_own(host: str, origin: str) -> None:
    assert not elsewhere(host, ("origin", origin))
    assert not elsewhere(host, ("sec-fetch-site", "same-origin"), ("origin", origin), ("origin", origin))


@pytest.mark.parametrize(("host", "origin"), ELSEWHERE)
def test_every_other_page_is_not(host: str, origin: str) -> None:
    assert elsewhere(host, ("origin", origin))
    assert elsewhere(host, ("sec-fetch-site", "same-origin"), ("origin", origin))


def test_one_foreign_origin_among_several_is_enough() -> None:
    own, other = ("origin", "http://127.0.0.1"), ("origin", "http://evil.example")
    assert not elsewhere("127.0.0.1", own, own)
    assert elsewhere("127.0.0.1", own, other)
    assert elsewhere("127.0.0.1", other, own)


def test_a_request_without_a_host_comes_from_no_page_of_the_node() -> None:
    assert elsewhere(None, ("origin", "http://127.0.0.1"))
    assert not elsewhere(None)


@pytest.mark.parametrize("site", ["cross-site", "Cross-Site", " cross-site ", "same-origin, cross-site"])
def test_a_cross_site_request_is_foreign_with_any_origin(site: str) -> None:
    assert elsewhere("127.0.0.1", ("sec-fetch-site", site))
    assert elsewhere("127.0.0.1", ("sec-fetch-site", site), ("origin", "http://127.0.0.1"))
    assert elsewhere("127.0.0.1", ("sec-fetch-site", "none"), ("sec-fetch-site", site))


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none", "", "anything"])
def test_a_client_without_an_origin_is_no_browser(site: str) -> None:
    assert not elsewhere("evil.example", ("sec-fetch-site", site))
    assert not elsewhere("evil.example")


FOREIGN = [[b"Origin: http://evil.example"], [b"Origin: null"], [b"Sec-Fetch-Site: cross-site"]]
FOREIGN += [[b"Origin: http://h"], [b"Origin: http://10.0.0.1", b"Origin: http://evil.example"]]
TWO = b'{"actors": ["10.0.0.2"]}'


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fields", FOREIGN, ids=repr)
async def test_a_page_of_another_origin_changes_nothing(path: str, fields: list[bytes]) -> None:
    async with served(path) as server:
        client = await server.dial()
        asked = [
            post(b"a", b"1", *fields),
            post(b"a", b"1", *fields, b"Content-Type: text/plain"),
            post(b"a", b"1", *fields).replace(b"/counter/a ", b"http://h/counter/a "),
            post(b"a", TWO, *fields).replace(b"/counter/a ", b"/config "),
            get(b"/counter/a", *fields, b"Access-Control-Request-Method: POST", method=b"OPTIONS"),
            get(b"/", *fields, method=b"OPTIONS"),
            get(b"/config", *fields, method=b"DELETE"),
            get(b"/ping", *fields, method=b"get"),
            get(b"/nowhere", *fields, method=b"POST"),
        ]
        for request in asked:
            await client.send(request)
            answer = await client.answer()
            assert statuses(answer) == [403], request
            assert json.loads(answer.split(b"\r\n\r\n")[1])["code"] == "foreign_origin"
        for method in (b"GET", b"HEAD"):
            await client.send(get(b"/counter/a/value", *fields, method=method))
            assert statuses(await client.answer(head=method == b"HEAD")) == [200]
        await client.stream.aclose()
        assert server.node.value("a") == 0
        assert server.node.config()["actors"] == [ADDRESS]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("target", ["/link", "/ping", "//link"])
@pytest.mark.parametrize("fields", FOREIGN, ids=repr)
async def test_a_page_of_another_origin_opens_no_websocket(path: str, target: str, fields: list[bytes]) -> None:
    async with served(path) as server:
        client = await server.dial()
        await client.send(upgrade(target, "h")[:-2] + b"".join(field + b"\r\n" for field in fields) + b"\r\n")
        answer = await client.rest()
        assert statuses(answer) == [403]
        assert b'"foreign_origin"' in answer
        assert not server.connections.links


@pytest.mark.parametrize("path", PATHS)
async def test_pages_of_names_that_the_config_or_the_listener_has_are_the_nodes_own(path: str) -> None:
    async with served(path, actors=(ADDRESS, "node-two.example:7777")) as server:
        client = await server.dial()
        for host, status in [(b"node-two.example", 200), (b"node-six.example", 403), (b"10.0.0.1:7777", 200)]:
            own = post(b"a", b"1", b"Origin: http://" + host).replace(b"Host: h", b"Host: " + host)
            absolute = post(b"a", b"1", b"Origin: http://" + host)
            absolute = absolute.replace(b"/counter/a ", b"http://" + host + b"/counter/a ")
            for request in (own, absolute):
                await client.send(request)
                assert statuses(await client.answer()) == [status]
        await client.stream.aclose()
