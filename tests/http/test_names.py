"""The names of counters, over HTTP and Redis: one counter has one name, in whatever way it is written."""

from __future__ import annotations

import pytest

from gcount.redis.command import parse_name, parse_names
from gcount.redis.resp import CommandError
from tests.http.served_node import PATHS, get, post, served, statuses, value

ODD = [b"a", b"/", b"/blog/2026/", b"a b", b"\xc3\xa9", b"a/", b"x" * 255]
WRONG = [b"", b"a\nb", b"\n", b"\xff", b"x" * 256, b"\x7f", b"a\0"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_slash_is_written_encoded_in_a_path_and_nowhere_else(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        for name in (b"%2Fblog%2F2026", b"%2fblog%2f2026"):
            await client.send(post(name, b"2"))
            assert statuses(await client.answer()) == [200]
        assert server.node.value("/blog/2026") == 4
        await client.send(value(b"/blog/2026"))
        assert statuses(await client.answer()) == [404]
        await client.send(get(b"/counter/%252Fblog%252F2026/value"))
        assert (await client.answer()).endswith(b"\r\n\r\n0\n")
        await client.stream.aclose()


@pytest.mark.parametrize("names", [[one, other] for one in ODD for other in ODD if one != other], ids=repr)
def test_many_names_at_once_are_the_names_that_each_is_alone(names: list[bytes]) -> None:
    found = parse_names(names)
    assert found is None or found == [parse_name(name) for name in names]
    joined = b"".join(names)
    if joined.isascii() and b" " not in joined:
        assert found is not None


@pytest.mark.parametrize("name", WRONG, ids=repr)
def test_a_bad_name_is_refused_among_many(name: bytes) -> None:
    with pytest.raises(CommandError):
        parse_name(name)
    for names in ([name, b"a"], [b"a", name], [name, name], [b"a", name, b"b"]):
        assert parse_names(names) is None
