"""Increments with ids over HTTP, on the fast path and without it: several clients send the same ones."""

from __future__ import annotations

import re

import pytest

from tests.fakes.cluster import WALL_CLOCK
from tests.http.served_node import LAST, PATHS, once, post, put, served, source, statuses, until, value

ID, OTHER = (b"%d-%b" % (WALL_CLOCK, end) for end in (b"a", b"b"))
REPLAYED = b"\r\nidempotent-replayed: true\r\n"


def bodies(answers: bytes) -> list[bytes]:
    return re.findall(rb"\r\n\r\n([^\n]*)\n", answers)


@pytest.mark.parametrize("path", PATHS)
async def test_an_increment_that_is_sent_twice_before_it_is_on_disk_counts_once(path: str) -> None:
    """The second request waits for the commit of the first one, and only one of them was new."""
    async with served(path) as server:
        first, second = await server.dial(), await server.dial()
        server.disk.shut()
        await first.send_alone(once(b"a", b"5", ID))
        await second.send_alone(once(b"a", b"5", ID))
        await until(lambda: first.connection.busy and second.connection.busy)
        server.disk.gate.set()
        answers = [await first.answer(), await second.answer()]
        assert [bodies(answer) for answer in answers] == [[b"5"], [b"5"]]
        assert [REPLAYED in answer for answer in answers] == [False, True]
        assert server.node.value("a") == 5


@pytest.mark.parametrize("path", PATHS)
async def test_requests_with_ids_and_without_are_answered_in_their_order(path: str) -> None:
    """A run of equal increments is no run if ids are among them."""
    async with served(path) as server:
        requests = [post(b"a", b"1"), once(b"a", b"1", ID), post(b"a", b"1"), once(b"a", b"1", ID)]
        requests += [once(b"a", b"1", OTHER), once(b"b", b"1", ID), post(b"a", b"1"), value(b"a"), value(b"b"), LAST]
        answers = await server.exchange(b"".join(requests))
        assert statuses(answers) == [200] * len(requests)
        assert bodies(answers) == [b"1", b"2", b"3", b"3", b"4", b"1", b"5", b"5", b"1", b"0"]
        assert answers.count(REPLAYED) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_a_repeated_increment_is_answered_with_the_value_of_now(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        for request, answer, replayed in (
            (once(b"a", b"5", ID), b"5", False),
            (post(b"a", b"10"), b"15", False),
            (once(b"a", b"5", b'"%b"' % ID), b"15", True),
            (once(b"a", b"0", OTHER), b"15", False),
        ):
            await client.send(request)
            answered = await client.answer()
            assert bodies(answered) == [answer]
            assert (REPLAYED in answered) == replayed
        await client.stream.aclose()


async def test_a_source_counts_by_its_greatest_total() -> None:
    async with served() as server:
        requests = [put(b"a", ID, b"5"), put(b"a", ID, b"3"), put(b"a", ID, b"8"), put(b"a", ID, b"8")]
        requests += [source(b"a", ID), put(b"a", OTHER, b"0"), source(b"a", OTHER)]
        answers = await server.exchange(b"".join([*requests, LAST]))
        assert statuses(answers) == [200] * 6 + [404, 200]
        assert bodies(answers)[:6] == [b"5", b"5", b"8", b"8", b"8", b"8"]
        assert b'"code": "id_unknown"' in answers
        assert REPLAYED not in answers


async def test_an_increment_and_a_source_of_one_id_are_one() -> None:
    async with served() as server:
        requests = [once(b"a", b"5", ID), source(b"a", ID), put(b"a", ID, b"7"), once(b"a", b"5", ID)]
        answers = await server.exchange(b"".join([*requests, value(b"a"), LAST]))
        assert statuses(answers) == [200, 200, 200, 422, 200, 200]
        assert [*bodies(answers)[:3], bodies(answers)[4]] == [b"5", b"5", b"7", b"7"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("id_", [b"018bcfe5-6800-7abc-8def-00000000000f", b"01hf7yat00000000000000000z"])
async def test_a_uuid_or_a_ulid_counts_once_in_letters_of_either_case(path: str, id_: bytes) -> None:
    async with served(path) as server:
        requests = [once(b"a", b"5", id_), once(b"a", b"5", id_.upper()), once(b"a", b"5", b'"%b"' % id_.title())]
        requests += [put(b"a", id_.upper(), b"7"), source(b"a", id_), source(b"a", id_.upper()), LAST]
        answers = await server.exchange(b"".join(requests))
        assert bodies(answers)[:6] == [b"5", b"5", b"5", b"7", b"7", b"7"]
        assert answers.count(REPLAYED) == 2


@pytest.mark.parametrize("path", PATHS)
async def test_only_refusals_that_pass_say_when_to_try_again(path: str) -> None:
    refusals = {
        once(b"a", b"5", b"1-a"): (503, "ids_unavailable"),
        once(b"a", b"5", ID): (503, "ids_unavailable"),
        put(b"a", ID, b"5"): (503, "ids_unavailable"),
        once(b"a", b"5", b"a"): (400, "bad_id"),
    }
    async with served(path, actors=("10.0.0.1:7777", "10.0.0.2:7777")) as server:
        for request, (status, code) in refusals.items():
            client = await server.dial()
            await client.send(request)
            answer = await client.answer()
            assert statuses(answer) == [status]
            assert f'"code": "{code}"'.encode() in answer
            assert (b"\r\nretry-after: 1\r\n" in answer) == (status == 503)
            await client.stream.aclose()
        assert server.node.value("a") == 0
