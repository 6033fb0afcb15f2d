"""Commands about the server, and about other properties of counters than their values."""

from __future__ import annotations

import re
from time import time

import pytest

from gcount.redis import resp
from gcount.redis.commands import counters as commands
from tests.harness.resp import encoded, line
from tests.http.served_node import until
from tests.redis.test_commands import serving


async def test_a_counter_has_no_time_to_live() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("TTL x;PTTL x;INCR x;TTL x;PTTL x;EXPIRETIME x;PEXPIRETIME y") == [
            -2,
            -2,
            1,
            -1,
            -1,
            -1,
            -2,
        ]


async def test_role_and_time() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("ROLE") == ["master", 0, []]
        now = await client.ask("TIME")
        assert isinstance(now, list)
        assert abs(int(now[0]) - time()) < 60
        assert 0 <= int(now[1]) < 1_000_000


async def test_the_slow_log_is_empty() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("SLOWLOG GET;SLOWLOG GET 5;slowlog get -1;SLOWLOG LEN;SLOWLOG RESET") == [
            [],
            [],
            [],
            0,
            "OK",
        ]
        for wrong in ("SLOWLOG GET x", "SLOWLOG GET -2", "SLOWLOG NOPE", "SLOWLOG LEN 1", "SLOWLOG"):
            assert str(await client.ask(wrong)).startswith("ERR ")


async def test_memory_usage() -> None:
    async with serving() as running:
        client = await running.connect()
        asked = "MEMORY USAGE x;INCR x;MEMORY USAGE x;memory usage x samples 5;MULTI;MEMORY USAGE x;EXEC"
        found = await client.ask(asked)
        assert isinstance(found, list)
        assert found[0] is None
        assert found[2] == found[3] == found[-1][0] > 100
        for wrong in ("MEMORY DOCTOR", "MEMORY USAGE", "MEMORY USAGE x y", "MEMORY USAGE x SAMPLES y"):
            assert str(await client.ask(wrong)).startswith("ERR ")


async def test_command_getkeys() -> None:
    async with serving() as running:
        client = await running.connect()
        asked = "COMMAND GETKEYS INCRBY a 5;COMMAND GETKEYS mget a b c;COMMAND GETKEYS MEMORY USAGE a"
        assert await client.ask(asked) == [["a"], ["a", "b", "c"], ["a"]]
        assert await client.ask("COMMAND GETKEYS PING;COMMAND GETKEYS NOPE a;COMMAND GETKEYS GET") == [
            "ERR The command has no key arguments",
            "ERR Invalid command specified",
            "ERR Invalid number of arguments specified for command",
        ]


async def test_keys_are_all_that_match() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask(";".join(f"INCR n{n}" for n in range(100)) + ";INCR other")
        assert await client.ask("KEYS n*") == [f"n{n}" for n in range(100)]
        assert await client.ask("KEYS oth?r;KEYS nothing") == [["other"], []]


async def test_keys_are_refused_where_there_are_too_many_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_KEYS", 2)
    async with serving() as running:
        found = await (await running.connect()).ask("INCR a;INCR b;KEYS *;INCR c;KEYS *")
        assert isinstance(found, list)
        assert found[2] == ["a", "b"]
        assert found[4] == "ERR KEYS is for up to 2 counters, and there are 3; use SCAN"


async def test_one_client_at_a_time_collects_all_names() -> None:
    async with serving() as running:
        first, second = await running.connect(), await running.connect()
        assert await second.ask("INCR x") == 1
        async with running.redis.shared.listing:
            await first.send(line("KEYS *"))
            await until(lambda: running.redis.shared.listing.statistics().tasks_waiting == 1)
            assert await second.ask("INCR x;GET x") == [2, "2"]
        assert await first.reply() == ["x"]


async def test_very_many_names_are_read_at_once() -> None:
    async with serving() as running:
        client = await running.connect()
        names = [b"n%d" % n for n in range(resp.MAX_ARGUMENTS - 1)]
        assert await client.ask("INCR n5") == 1
        for command in ("MGET", "EXISTS"):
            await client.send(encoded(command, *names))
        values = await client.reply()
        assert isinstance(values, list)
        assert len(values) == 16_384
        assert [at for at, value in enumerate(values) if value is not None] == [5]
        assert await client.reply() == 1
        long = [b"%0255d" % n for n in range(resp.MAX_ARGUMENTS - 1)]
        await client.send(encoded("MGET", *long))
        assert await client.reply() == [None] * 16_384


async def test_info_has_what_tools_read() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask("INCR x")
        text = str(await client.ask("INFO"))
        found = dict(re.findall(r"^(\w+):(.*)\r$", text, re.MULTILINE))
        assert found["role"] == "master"
        assert int(found["connected_clients"]) == 1
        assert int(found["total_connections_received"]) == 1
        assert int(found["total_commands_processed"]) >= 1
        assert int(found["used_memory"]) > 2**20
        zero = "blocked_clients rdb_bgsave_in_progress aof_rewrite_in_progress loading cluster_enabled maxmemory"
        assert [found[name] for name in zero.split()] == ["0"] * 6
        assert found["db0"] == "keys=1,expires=0,avg_ttl=0"
        assert str(await client.ask("INFO memory")).startswith("# Memory\r\nused_memory:")
        assert await client.ask("INFO nothing") == ""
        waits = await running.connect()
        await waits.send(line("WAIT 1 0"))
        await until(lambda: running.redis.shared.blocked == 1)
        assert "blocked_clients:1" in str(await client.ask("INFO clients"))
        await waits.stream.send_eof()
        assert await waits.reply() == 0
        assert "blocked_clients:0" in str(await client.ask("INFO clients"))
