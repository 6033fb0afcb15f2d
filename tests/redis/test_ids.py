"""GCOUNT.INCRBY and GCOUNT.SOURCE of a real node over loopback: an id counts once, in pipelines and transactions."""

from __future__ import annotations

import errno

import pytest
import trio

from gcount.redis.context import Client
from tests.fakes.cluster import WALL_CLOCK
from tests.harness.resp import encoded, line
from tests.redis.test_commands import BIG, serving
from tests.redis.test_session import pending, replies, stuck

NOW = int(WALL_CLOCK)
ID = f"{NOW}-a"
CONFLICT = f"GCCONFLICT the id {ID} was sent before with the amount 5, and now with 6"


async def test_an_increment_with_an_id_counts_once() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask(f"GCOUNT.INCRBY x 5 ID {ID};INCR x;gcount.incrby x 5 id {ID};GET x") == [5, 6, 6, "6"]
        assert await (await running.connect()).ask(f"GCOUNT.INCRBY x 5 ID {ID};GCOUNT.INCRBY y 5 ID {ID}") == [6, 5]
        text = running.node.metrics.text().decode()
        assert 'gcount_redis_commands_total{command="GCOUNT.INCRBY",outcome="ok"} 4.0' in text


@pytest.mark.parametrize("id_", ["018bcfe5-6800-7abc-8def-00000000000f", "01hf7yat00000000000000000z"])
async def test_a_uuid_or_a_ulid_counts_once_in_letters_of_either_case(id_: str) -> None:
    async with serving() as running:
        client = await running.connect()
        asked = [
            f"GCOUNT.INCRBY x 5 ID {id_}",
            f"GCOUNT.INCRBY x 5 ID {id_.upper()}",
            f"GCOUNT.SOURCE x {id_.title()} 7",
        ]
        assert await client.ask(";".join(asked)) == [5, 5, 7]


async def test_an_increment_by_nothing_has_an_id_like_any_other() -> None:
    async with serving() as running:
        client = await running.connect()
        asked = [f"GCOUNT.INCRBY x {amount} ID {ID}" for amount in (0, 5, 0)]
        found = await client.ask(";".join([*asked, "GCOUNT.INCRBY x 0 ID 1-a", "GCOUNT.SOURCE x 1-a 0", "GET x"]))
        assert isinstance(found, list)
        assert [found[0], found[1], *found[4:]] == [0, 5, 5, "5"]
        assert [str(reply).partition(" ")[0] for reply in found[2:4]] == ["GCCONFLICT", "GCGONE"]
        found = await client.ask(f"MULTI;GCOUNT.INCRBY x 0 ID {ID};EXEC")
        assert isinstance(found, list)
        assert str(found[-1]).startswith("EXECABORT Transaction discarded because of: GCCONFLICT ")


async def test_a_source_counts_by_its_greatest_total() -> None:
    async with serving() as running:
        client = await running.connect()
        asked = [f"GCOUNT.SOURCE x {ID} {total}" for total in (5, 3, 9, 0)]
        assert await client.ask(";".join([*asked, "INCR x", *asked, f"GCOUNT.SOURCE y {ID} 0", "EXISTS y"])) == [
            *(5, 5, 9, 9, 10),
            *[10] * 4,
            *(0, 0),
        ]


async def test_an_id_that_is_sent_twice_before_it_is_on_disk_counts_once() -> None:
    async with serving() as running:
        first, second = await running.connect(), await running.connect()
        with stuck(running.disk):
            await first.send(line(f"GCOUNT.INCRBY x 5 ID {ID}"))
            await pending(running)
            await second.send(line(f"GCOUNT.INCRBY x 5 ID {ID};GCOUNT.INCRBY x 6 ID {ID};INCR x"))
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await first.reply() == 5
        assert await replies(second, 3) == [5, CONFLICT, 6]


async def test_values_beyond_64_bits_are_answered_as_those_of_other_increments() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask(f"GCOUNT.INCRBY x {BIG} ID {ID};GCOUNT.SOURCE x {ID} {BIG}") == [str(BIG)] * 2
        await client.ask("HELLO 3")
        assert await client.raw(encoded("GCOUNT.SOURCE", "x", ID, 1), 23) == b"(%d\r\n" % BIG


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        (f"GCOUNT.INCRBY x 6 ID {ID}", CONFLICT),
        (f"GCOUNT.INCRBY x 6 ID {NOW + 301}-a", f"GCCONFLICT the id {NOW + 301}-a was made at {NOW + 301} s "),
        (f"GCOUNT.SOURCE x {NOW + 301}-a 5", "GCCONFLICT "),
        (f"GCOUNT.INCRBY x 5 ID {NOW - 3600}-a", f"GCGONE the id {NOW - 3600}-a was made at {NOW - 3600} s since 1970"),
        ("GCOUNT.SOURCE x 1-a 5", "GCGONE "),
        ("GCOUNT.INCRBY x 5 ID a", "ERR the id does not say when it was made: it must be a UUIDv7, a ULID or "),
        ("GCOUNT.SOURCE x a 5", "ERR the id does not say when it was made: it must be a UUIDv7, a ULID or "),
        ("GCOUNT.INCRBY x 5 ID 1-a,b", "ERR the id has other characters, or too many or too few: "),
        ("GCOUNT.SOURCE x 1-" + "x" * 63 + " 5", "ERR the id has other characters, or too many or too few: "),
        (f"GCOUNT.INCRBY x -5 ID {ID}", "ERR a negative amount is not possible: counters only grow"),
        (f"GCOUNT.INCRBY x 5.0 ID {ID}", "ERR value is not an integer or out of range"),
        (f"GCOUNT.SOURCE x {ID} {BIG + 1}", "ERR value is not an integer or out of range"),
        (f"GCOUNT.INCRBY a\x7f 5 ID {ID}", "ERR the counter's name is not allowed"),
        (f"GCOUNT.SOURCE a\x7f {ID} 5", "ERR the counter's name is not allowed"),
        (f"GCOUNT.INCRBY x 5 KEY {ID}", "ERR syntax error; it is GCOUNT.INCRBY name amount ID id"),
        (f"GCOUNT.INCRBY x 5 ID {ID} ID {ID}", "ERR syntax error; it is GCOUNT.INCRBY name amount ID id"),
        (f"GCOUNT.INCRBY x 5 ID {ID} ID", "ERR syntax error; it is GCOUNT.INCRBY name amount ID id"),
        ("GCOUNT.INCRBY x 5", "ERR wrong number of arguments for 'gcount.incrby' command"),
        ("GCOUNT.INCRBY x 5 ID", "ERR wrong number of arguments for 'gcount.incrby' command"),
        (f"GCOUNT.SOURCE x {ID}", "ERR wrong number of arguments for 'gcount.source' command"),
        (f"GCOUNT.SOURCE x {ID} 5 6", "ERR wrong number of arguments for 'gcount.source' command"),
    ],
)
async def test_errors_say_what_is_wrong_and_change_nothing(asked: str, reply: str) -> None:
    async with serving() as running:
        client = await running.connect()
        found = await client.ask(f"GCOUNT.INCRBY x 5 ID {ID};{asked};PING;DBSIZE;GET x")
        assert isinstance(found, list)
        assert str(found[1]).startswith(reply)
        assert [found[0], *found[2:]] == [5, "PONG", 1, "5"]


async def test_ids_are_refused_until_all_members_are_known_to_understand_them() -> None:
    async with serving() as running:
        await running.node.configure({"actors": ["127.0.0.1:7777", "10.0.0.2:7777"]})
        found = await (await running.connect()).ask(f"GCOUNT.INCRBY x 5 ID {ID};GCOUNT.SOURCE x {ID} 5;INCR x")
        assert isinstance(found, list)
        assert [str(reply)[:12] for reply in found[:2]] == ["UNAVAILABLE "] * 2
        assert found[2] == 1


async def test_a_full_disk_refuses_what_is_new_and_answers_what_is_known() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask(f"GCOUNT.INCRBY x 5 ID {ID}")
        running.disk.fail("write", 0, errno.ENOSPC)
        assert str(await client.ask(f"GCOUNT.INCRBY x 5 ID {NOW}-b")).startswith("MISCONF ")
        assert await client.ask(f"GCOUNT.INCRBY x 5 ID {ID}") == 5
        assert await client.ask(f"GCOUNT.INCRBY x 5 ID {NOW}-b") == 10


async def test_a_transaction_that_is_sent_again_counts_its_ids_once() -> None:
    async with serving() as running:
        client = await running.connect()
        asked = f"MULTI;GCOUNT.INCRBY x 5 ID {ID};GET x;INCR y;GCOUNT.SOURCE x {NOW}-b 2;EXEC"
        assert (await client.ask(asked))[-1] == [5, "5", 1, 7]  # type: ignore[index]
        assert (await client.ask(asked))[-1] == [7, "7", 2, 7]  # type: ignore[index]


@pytest.mark.parametrize("wrong", [f"GCOUNT.INCRBY x 6 ID {ID}", "GCOUNT.SOURCE x 1-a 5"])
async def test_a_transaction_with_an_id_that_is_refused_counts_nothing(wrong: str) -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask(f"GCOUNT.INCRBY x 5 ID {ID}")
        found = await client.ask(f"MULTI;INCR x;GCOUNT.INCRBY y 1 ID {ID};{wrong};EXEC;GET x;GET y")
        assert isinstance(found, list)
        assert str(found[4]).startswith("EXECABORT Transaction discarded because of: GC")
        assert found[5:] == ["5", None]
        assert await client.ask(f"GCOUNT.INCRBY y 1 ID {ID}") == 1


@pytest.mark.parametrize("wrong", ["GCOUNT.INCRBY x 1 ID a", "GCOUNT.INCRBY x 1", "GCOUNT.SOURCE x 1-a x"])
async def test_a_wrong_id_is_refused_when_it_is_queued(wrong: str) -> None:
    async with serving() as running:
        found = await (await running.connect()).ask(f"MULTI;INCR x;{wrong};EXEC;GET x")
        assert isinstance(found, list)
        assert str(found[2]).startswith("ERR ")
        assert str(found[3]).startswith("EXECABORT ")
        assert found[4] is None


async def test_clients_can_look_the_commands_up() -> None:
    async with serving() as running:
        client = await running.connect()
        flags = ["write", "denyoom", "fast"]
        found = await client.ask("COMMAND INFO gcount.incrby GCOUNT.SOURCE")
        assert isinstance(found, list)
        assert [entry[:6] for entry in found] == [
            ["gcount.incrby", -5, flags, 1, 1, 1],
            ["gcount.source", 4, flags, 1, 1, 1],
        ]
        assert await client.ask(f"COMMAND GETKEYS GCOUNT.INCRBY x 1 ID {ID}") == ["x"]
        assert await client.ask(f"COMMAND GETKEYS GCOUNT.SOURCE x {ID} 1") == ["x"]


def test_what_is_acknowledged_never_goes_back() -> None:
    """An increment whose id is known may rest on an older commit than one that was acknowledged before."""
    client, mine, other = Client(1), b"m" * 16, b"o" * 16
    for position in ({mine: 3, other: 9}, {mine: 4, other: 2}, {mine: 4}):
        client.acknowledge(position)
    assert client.acknowledged == {mine: 4, other: 9}
