"""MULTI and EXEC of a real node over loopback: a transaction is counted with one commit, or not at all."""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.redis import transaction
from tests.harness.resp import encoded, line
from tests.http.served_node import until
from tests.redis.test_commands import BIG, serving
from tests.redis.test_session import asleep, pending, replies, stuck

DISCARDED = "EXECABORT Transaction discarded because of previous errors."


async def test_a_transaction_is_queued_and_executed_with_one_commit() -> None:
    async with serving() as running:
        client = await running.connect()
        batches = running.node.replica.next_batch
        assert await client.ask("MULTI;INCR x;INCRBY y 5;GET x;INCR x;MGET x y z;EXISTS x z;PING") == [
            "OK",
            *["QUEUED"] * 7,
        ]
        assert await (await running.connect()).ask("MGET x y") == [None, None]
        assert running.node.replica.next_batch == batches
        assert await client.ask("EXEC") == [1, 5, "1", 2, ["2", "5", None], 1, "PONG"]
        assert running.node.replica.next_batch == batches + 1
        assert await client.ask("GET x;EXEC") == ["2", "ERR EXEC without MULTI"]


@pytest.mark.parametrize("together", [True, False])
async def test_a_transaction_is_the_same_in_whatever_pieces_it_comes(together: bool) -> None:
    commands = "INCR x;MULTI;INCR x;GET x;EXEC;INCR x;MULTI;EXEC;GET x"
    expected = [1, "OK", "QUEUED", "QUEUED", [2, "2"], 3, "OK", [], "3"]
    async with serving() as running:
        client = await running.connect()
        if together:
            assert await client.ask(commands) == expected
        else:
            assert [await client.ask(command) for command in commands.split(";")] == expected


async def test_transactions_of_a_pipeline_share_a_commit_with_the_commands_around_them() -> None:
    async with serving() as running:
        client = await running.connect()
        batches = running.node.replica.next_batch
        found = await client.ask(";".join(["INCR x;MULTI;INCR x;INCR y;EXEC"] * 20))
        assert isinstance(found, list)
        assert found[0::5] == list(range(1, 41, 2))
        assert found[4::5] == [[2 * n, n] for n in range(1, 21)]
        assert running.node.replica.next_batch == batches + 1


async def test_reads_in_a_transaction_are_of_the_instant_of_its_increments() -> None:
    """Also reads before the first increment, while other clients count."""
    wrong: list[object] = []

    async def transact() -> None:
        client = await running.connect()
        for _ in range(50):
            found = await client.ask("MULTI;GET x;INCR x;STRLEN x;GET x;EXEC")
            assert isinstance(found, list)
            before, value, _, after = found[-1]
            if not int(before or 0) + 1 == value == int(after):
                wrong.append(found[-1])

    async def count() -> None:
        client = await running.connect()
        for _ in range(200):
            await client.ask("INCR x")

    async with serving() as running, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(transact)
            nursery.start_soon(count)
    assert wrong == []


async def test_a_transaction_of_reads_needs_no_commit() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask("INCR x")
        with stuck(running.disk):
            assert await client.ask("MULTI;GET x;TTL x;TTL y;EXEC") == ["OK", *["QUEUED"] * 3, ["1", -1, -2]]
        running.disk.fail("write", 0, errno.ENOSPC)
        assert (await client.ask("INCR x;MULTI;GET x;EXEC;GET x"))[3:] == [["1"], "1"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("NOPE", "ERR unknown command 'NOPE', with args beginning with:"),
        ("INCR", "ERR wrong number of arguments for 'incr' command"),
        ("INCR " + "x" * 256, "ERR the counter's name is not allowed: "),
        ("INCRBY x -1", "ERR a negative amount is not possible: counters only grow"),
        ("INCRBY x one", "ERR value is not an integer or out of range"),
        ("SET x 1", "ERR SET is not possible: counters only grow"),
        ("MULTI", "ERR MULTI calls can not be nested"),
        ("WATCH x", "ERR WATCH inside MULTI is not allowed"),
        ("WAIT 1 1", "ERR WAIT is not possible inside MULTI"),
        ("SCAN 0", "ERR SCAN is not possible inside MULTI"),
        ("GCOUNT.CONSISTENT x", "ERR GCOUNT.CONSISTENT is not possible inside MULTI"),
        ("HELLO 3", "ERR HELLO is not possible inside MULTI"),
        ("DISCARD now", "ERR wrong number of arguments for 'discard' command"),
    ],
)
async def test_an_error_while_queueing_makes_exec_refuse_all(wrong: str, error: str) -> None:
    async with serving() as running:
        client = await running.connect()
        found = await client.ask(f"MULTI;INCR x;{wrong};INCR x;EXEC;GET x;INCR y")
        assert isinstance(found, list)
        assert str(found[2]).startswith(error)
        assert [*found[:2], *found[3:]] == ["OK", "QUEUED", "QUEUED", DISCARDED, None, 1]


async def test_exec_with_words_behind_it_discards_the_transaction() -> None:
    async with serving() as running:
        found = await (await running.connect()).ask("MULTI;INCR x;EXEC now;GET x;EXEC")
        assert isinstance(found, list)
        assert str(found[2]).startswith("EXECABORT Transaction discarded because of: ERR wrong number of arguments")
        assert found[3:] == [None, "ERR EXEC without MULTI"]


async def test_a_watch_is_refused_and_what_it_was_to_guard_is_not_executed() -> None:
    async with serving() as running:
        client = await running.connect()
        found = await client.ask("WATCH x;GET x;MULTI;INCR x;EXEC;GET x;MULTI;INCR x;EXEC")
        assert isinstance(found, list)
        assert str(found[0]).startswith("ERR WATCH is not possible: ")
        assert str(found[4]).startswith("EXECABORT Transaction discarded because of: WATCH is not possible: ")
        assert found[5:] == [None, "OK", "QUEUED", [1]]
        for forgotten in ("UNWATCH", "MULTI;DISCARD", "RESET"):
            found = await client.ask(f"WATCH x;{forgotten};MULTI;INCR {forgotten[:5]};EXEC")
            assert isinstance(found, list)
            assert found[-1] == [1]


@pytest.mark.parametrize("how", ["DISCARD", "RESET"])
async def test_a_discarded_transaction_is_not_counted(how: str) -> None:
    async with serving() as running:
        client = await running.connect()
        expected = ["OK", "QUEUED", "RESET" if how == "RESET" else "OK", "ERR EXEC without MULTI", None]
        assert await client.ask(f"MULTI;INCR x;{how};EXEC;GET x") == expected
        assert await client.ask(f"MULTI;NOPE;{how};MULTI;INCR x;EXEC;DISCARD") != []
        assert running.node.value("x") == 1


@pytest.mark.parametrize("how", ["QUIT", "the end of the input", "a reset"])
async def test_a_client_that_leaves_during_a_transaction_has_counted_nothing(how: str) -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("MULTI;INCR x") == ["OK", "QUEUED"]
        if how == "QUIT":
            assert await client.ask("QUIT") == "OK"
        elif how == "a reset":
            client.stream.close(reset=True)
        else:
            await client.stream.send_eof()
        await until(lambda: not running.redis.sessions)
        assert running.redis.shared.kept == 0
        assert running.node.value("x") == 0


# All or nothing


@pytest.mark.parametrize("before", ["INCR a", "PING"])
async def test_at_the_limit_of_counters_nothing_of_a_transaction_is_counted(before: str) -> None:
    async with serving(max_counters=3) as running:
        client = await running.connect()
        found = await client.ask(f"{before};INCR b;MULTI;INCRBY b 7;INCR c;INCR d;INCR e;EXEC;INCR c;MGET b c d e")
        assert isinstance(found, list)
        assert str(found[7]).startswith(
            "EXECABORT Transaction discarded because of: OOM this node takes new counters up to 3"
        )
        assert found[8:] == [1, ["1", "1", None, None]]
        assert running.node.metrics.text().count(b"gcount_increments_total 3.0") == (before == "INCR a")


async def test_at_the_limit_of_a_part_nothing_of_a_transaction_is_counted() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask(f"INCRBY x {BIG - 1}") == str(BIG - 1)
        found = await client.ask("MULTI;INCR y;INCR x;GET y;INCR x;EXEC;MGET x y;MULTI;INCR y;INCR x;EXEC")
        assert isinstance(found, list)
        assert str(found[5]).startswith("EXECABORT Transaction discarded because of: ERR increment or decrement would")
        assert found[6:] == [[str(BIG - 1), None], "OK", "QUEUED", "QUEUED", [1, str(BIG)]]


async def test_on_a_full_disk_nothing_of_a_transaction_is_counted() -> None:
    async with serving() as running:
        client = await running.connect()
        running.disk.fail("write", 0, errno.ENOSPC)
        found = await client.ask("MULTI;INCR x;GET x;INCR y;EXEC;MGET x y")
        assert isinstance(found, list)
        assert found[4:] == ["EXECABORT Transaction discarded because of: MISCONF the disk is full", [None, None]]
        assert await client.ask("MULTI;INCR x;INCR y;EXEC") == ["OK", "QUEUED", "QUEUED", [1, 1]]


async def test_a_command_that_fails_at_exec_discards_the_transaction() -> None:
    async with serving() as running:
        found = await (await running.connect()).ask("MULTI;INCR x;SELECT 3;EXEC;GET x")
        assert isinstance(found, list)
        assert str(found[3]).startswith("EXECABORT Transaction discarded because of: ERR DB index is out of range")
        assert found[4] is None


async def test_the_increments_of_a_transaction_are_visible_at_one_instant() -> None:
    async with serving() as running:
        client, other = await asleep(running), await running.connect()
        with stuck(running.disk):
            await client.send(line("MULTI;INCR x;INCR y;EXEC"))
            await pending(running)
            assert await other.ask("MGET x y") == [None, None]
        assert (await replies(client, 4))[-1] == [1, 1]
        assert await other.ask("MGET x y") == ["1", "1"]


# Bounds


async def test_the_number_of_commands_in_a_transaction_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "MAX_QUEUED", 10)
    async with serving() as running:
        client = await running.connect()
        assert (await client.ask(";".join(["MULTI", *["INCR x"] * 10, "EXEC"])))[-1] == list(range(1, 11))  # type: ignore[index]
        found = await client.ask(";".join(["MULTI", *["INCR x"] * 12, "EXEC;GET x"]))
        assert isinstance(found, list)
        assert found[10] == "QUEUED"
        assert str(found[11]).startswith("ERR the transaction is too big; at most it has 10 commands, 1000 of them")
        assert found[12:] == ["QUEUED", DISCARDED, "10"]


async def test_the_memory_of_a_transaction_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "MAX_QUEUED_BYTES", 10_000)
    async with serving() as running:
        client = await running.connect()
        found = await client.ask("MULTI;INCR x;ECHO " + "x" * 10_000 + ";EXEC;MULTI;INCR x;EXEC")
        assert isinstance(found, list)
        assert str(found[2]).startswith("ERR the transaction is too big; ")
        assert found[3:] == [DISCARDED, "OK", "QUEUED", [1]]


async def test_a_transaction_has_few_commands_that_are_not_about_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "MAX_OTHERS", 5)
    async with serving() as running:
        client = await running.connect()
        for pings, last in ((5, [1, *["PONG"] * 5]), (6, DISCARDED)):
            found = await client.ask(";".join(["MULTI;INCRBY x 1", *["PING"] * pings, "EXEC"]))
            assert isinstance(found, list)
            assert found[-1] == last
        assert running.node.value("x") == 1


async def test_the_memory_of_all_transactions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcount.redis.inbox._SHARED_BYTES", 60_000)
    async with serving() as running:
        first, second = await running.connect(), await running.connect()
        await first.ask(";".join(["MULTI", *["INCR x"] * 150]))
        found = await second.ask(";".join(["MULTI", *["INCR x"] * 150, "EXEC"]))
        assert isinstance(found, list)
        assert "OOM no memory is left for more commands of transactions" in found
        assert found[-1] == DISCARDED
        assert await first.ask("EXEC") == list(range(1, 151))
        assert running.redis.shared.kept == 0


async def test_a_transaction_keeps_no_memory_from_others_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its client sends then. A transaction that takes little memory may last."""
    monkeypatch.setattr("gcount.redis.session._TRANSACTION_WITHIN", 0.0)
    monkeypatch.setattr("gcount.redis.service._REFRESH_SECONDS", 0.0)
    async with serving() as running:
        big, small = await running.connect(), await running.connect()
        await big.ask(";".join(["MULTI", *["INCR x"] * 150]))
        await small.ask("MULTI;INCR y")
        assert running.redis.shared.kept > 0
        running.redis.refresh()
        assert await big.rest() == b""
        assert await small.ask("EXEC") == [1]
        await until(lambda: running.redis.shared.kept == 0)
        assert running.node.value("x") == 0


async def test_the_size_of_a_transactions_answers_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "MAX_ANSWER_BYTES", 10_000)
    async with serving() as running:
        found = await (await running.connect()).ask("MULTI;INCR x;" + "COMMAND;" * 10 + "EXEC;GET x")
        assert isinstance(found, list)
        assert str(found[-2]).startswith("EXECABORT Transaction discarded because of: ERR the answers are longer than")
        assert found[-1] is None


# Whatever comes, in whatever pieces

COMMANDS = st.sampled_from(
    [
        "MULTI",
        "MULTI",
        "EXEC",
        "EXEC",
        "DISCARD",
        "INCR a",
        "INCRBY b 2",
        "GET a",
        "MGET a b",
        "NOPE",
        "WATCH a",
        "PING",
    ]
)


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(st.lists(COMMANDS, min_size=1, max_size=14), st.integers(1, 60))
async def test_any_cut_of_any_transactions_gives_the_same_answers(commands: list[str], size: int) -> None:
    data = b"".join(encoded(*command.split()) for command in commands)
    answers = []
    for step in (len(data), size):
        async with serving() as running:
            client = await running.connect()
            for start in range(0, len(data), step):
                await client.send(data[start : start + step])
                await trio.testing.wait_all_tasks_blocked(0.002)
            answers.append([await client.reply() for _ in commands])
    assert answers[0] == answers[1]
