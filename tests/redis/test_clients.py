"""CLIENT: Redis clients name themselves, and ask about themselves and each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import pytest
import trio

from gcount.redis import transaction
from gcount.redis.commands.clients import CLIENT
from gcount.redis.context import Call, Client, ClientStatistics, Connected, Shared
from gcount.redis.resp import CommandError
from gcount.redis.turn import Pieces
from tests.harness.resp import line
from tests.http.served_node import until
from tests.redis.test_commands import serving


def fields(text: object) -> dict[str, str]:
    """A line of CLIENT LIST."""
    assert isinstance(text, str)
    return dict(field.split("=", 1) for field in text.split())


async def test_a_client_can_ask_about_itself() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask("CLIENT SETNAME me;CLIENT SETINFO LIB-NAME lib;CLIENT SETINFO LIB-VER 1.2;INCR x")
        found = fields(await client.ask("CLIENT INFO"))
        host, port = client.stream.local()
        assert found["addr"] == f"{host}:{port}"
        assert found["laddr"] == f"127.0.0.1:{running.port}"
        shown = [found[key] for key in ("name", "lib-name", "lib-ver", "resp", "multi", "flags", "user", "db", "cmd")]
        assert shown == ["me", "lib", "1.2", "2", "-1", "N", "default", "0", "client"]
        assert found["id"] == str(await client.ask("CLIENT ID"))
        replies = await client.ask("MULTI;INCR x;CLIENT INFO;EXEC")
        assert isinstance(replies, list)
        assert fields(replies[-1][1])["multi"] == "-1"  # by then the transaction is over
        assert str(await client.ask("CLIENT SETINFO LIB-NAME a\tb")) != "OK"


async def test_all_clients_are_listed() -> None:
    async with serving() as running:
        first, second = await running.connect(), await running.connect()
        await second.ask("CLIENT SETNAME second;MULTI;INCR x;INCR y")
        await first.ask("INCR x")
        listed = str(await first.ask("CLIENT LIST")).splitlines()
        shown = [(fields(each)["name"], fields(each)["multi"], fields(each)["flags"]) for each in listed]
        assert sorted(shown) == [("", "-1", "N"), ("second", "2", "x")]
        assert len(str(await first.ask("CLIENT LIST TYPE normal")).splitlines()) == 2
        assert await first.ask("CLIENT LIST TYPE pubsub") == ""
        number = await first.ask("CLIENT ID")
        assert fields(await first.ask(f"CLIENT LIST ID {number} 999"))["id"] == str(number)
        for wrong in (
            "CLIENT LIST TYPE nope",
            "CLIENT LIST ID x",
            "CLIENT LIST ID",
            "CLIENT LIST FOO",
            "CLIENT KILL x",
        ):
            assert str(await first.ask(wrong)).startswith("ERR ")


class Crowd(Mapping[int, Connected]):
    """Many clients, without their connections.

    Args:
        number: of them; their ids begin with 1.
        look: called whenever one is shown, with its id.
    """

    def __init__(self, number: int, look: Callable[[int], None]) -> None:
        self.there = set(range(1, number + 1))
        self._look = look

    def __getitem__(self, number: int) -> Connected:
        return Member(number, self._look)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.there))

    def __contains__(self, number: object) -> bool:
        return number in self.there

    def __len__(self) -> int:
        return len(self.there)


class Member:
    """One of them."""

    def __init__(self, number: int, look: Callable[[int], None]) -> None:
        self._number, self._look = number, look

    def statistics(self) -> ClientStatistics:
        """What it looks like."""
        self._look(self._number)
        return ClientStatistics(
            self._number, b"", (b"", b""), "there:1", "here:1", 3, 1.5, 0.5, None, 0, 0, 0, "PING", 2
        )


def shown(listed: bytes) -> list[int]:
    """The ids in a reply to CLIENT LIST."""
    return [int(fields(text)["id"]) for text in listed.decode().split("\r\n", 1)[1].splitlines() if text]


async def listed(crowd: Crowd) -> bytes:
    shared = Shared(crowd)
    pieces = CLIENT.run(asking("CLIENT LIST", shared)) if CLIENT.run else None
    assert isinstance(pieces, Pieces)
    return await shared.join(pieces)


def asking(text: str, shared: Shared) -> Call:
    """A call with only the parts that CLIENT LIST needs."""
    absent = cast("Any", None)
    return Call(text.encode().split(), Client(1), absent, absent, shared, absent)


async def test_while_very_many_clients_are_listed_others_get_their_turn() -> None:
    turn = 0
    seen: list[int] = []

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        assert shown(await listed(Crowd(1000, lambda number: seen.append(turn)))) == list(range(1, 1001))
        nursery.cancel_scope.cancel()
    assert max(Counter(seen).values()) <= 40  # two slices, as the order in a round of the scheduler is random


async def test_clients_that_leave_or_connect_during_a_list_are_not_shown() -> None:
    def change(number: int) -> None:
        crowd.there -= {number + 50}
        crowd.there |= {1000 + number}

    crowd = Crowd(100, change)
    assert shown(await listed(crowd)) == list(range(1, 51))


async def test_one_client_at_a_time_collects_a_list_of_clients() -> None:
    async with serving() as running:
        first, second = await running.connect(), await running.connect()
        assert await second.ask("PING") == "PONG"
        async with running.redis.shared.listing:
            await first.send(line("INCR x;CLIENT LIST;INCR x"))
            await until(lambda: running.redis.shared.listing.statistics().tasks_waiting == 1)
            assert await second.ask("GET x") == "1"
            assert await first.reply() == 1
        assert len(str(await first.reply()).splitlines()) == 2
        assert await first.reply() == 2


async def test_a_list_in_a_transaction_is_made_up_to_the_bound_of_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "MAX_ANSWER_BYTES", 1000)
    looks: list[int] = []
    shared = Shared(Crowd(10_000, looks.append))
    assert CLIENT.run is not None
    queued = transaction.Transaction(2)
    call = asking("CLIENT LIST", shared)
    assert queued.queue("CLIENT", call.words, None, partial(CLIENT.run, call), lambda: True) == transaction.QUEUED
    with pytest.raises(CommandError, match="the answers are longer than"):
        queued.execute()
    assert 2 <= len(looks) <= 10
    async with serving() as running:
        client = await running.connect()
        found = await client.ask("MULTI;CLIENT LIST;EXEC")
        assert isinstance(found, list)
        assert len(found[-1][0].splitlines()) == 1
