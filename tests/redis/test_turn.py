"""A turn alone: which commands are staged, which are read at once, and which answers wait for the commit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from gcount.core.writes.increments import Add, Outcome, Peek, Together
from gcount.errors import CounterLimitReached, DiskFull, Refusal
from gcount.redis import resp
from gcount.redis.turn import Later, SessionTurn, Turn, error_text


def joined(values: Sequence[int]) -> bytes:
    return b",".join([b"%d" % value for value in values])


def outcome(*values: int | Refusal) -> Outcome:
    return Outcome(values, {}, refused=any(isinstance(value, Refusal) for value in values))


def turn_of(values: dict[str, int]) -> SessionTurn:
    return SessionTurn(lambda name: values.get(name, 0))


def test_reads_before_the_first_increment_are_answered_at_once() -> None:
    turn = turn_of({"x": 7})
    assert turn.read(["x", "y"], joined) == b"7,0"
    assert turn.asked == []
    turn.count(1, "x")
    assert turn.read(["x", "y"], joined) == Later(1, 2, joined)
    assert turn.asked == [Add("x", 1), Peek("x"), Peek("y")]


def test_a_turn_that_is_put_off_reads_nothing_before_its_commit() -> None:
    turn = Turn()
    assert turn.read(["x"], joined) == Later(0, 1, joined)


@pytest.mark.parametrize(
    ("version", "answer"), [(2, b"$19\r\n9223372036854775808\r\n"), (3, b"(9223372036854775808\r\n")]
)
def test_an_increment_is_answered_in_the_version_of_its_instant(version: int, answer: bytes) -> None:
    turn = turn_of({})
    turn.version = version
    later = turn.count(1, "x")
    turn.version = 5 - version
    assert later.render([2**63]) == answer


def test_answers_stay_in_order_though_some_wait() -> None:
    turn = turn_of({})
    turn.say("INCR", turn.count(1, "x"))
    turn.say("PING", b"+PONG\r\n")
    turn.say("GET", turn.read(["x"], joined))
    turn.say("INCR", turn.count(1, "x"))
    assert turn.size == len(b"+PONG\r\n")
    assert turn.asked == [Add("x", 1), Peek("x"), Add("x", 1)]
    turn.settle(outcome(5, 5, 6))
    assert turn.take() == (["INCR", "PING", "GET", "INCR"], [b":5\r\n", b"+PONG\r\n", b"5", b":6\r\n"])
    assert (turn.take(), turn.size, turn.asked) == (([], []), 0, [])


def test_a_refusal_is_the_answer_of_each_command_that_it_touches_and_of_no_other() -> None:
    turn = turn_of({})
    turn.say("INCR", turn.count(1, "x"))
    turn.say("MGET", turn.read(["x", "y"], joined))
    turn.say("INCR", turn.count(1, "y"))
    turn.settle(outcome(CounterLimitReached("no more"), 0, 3, 4))
    assert turn.take()[1] == [resp.error("OOM no more"), b"0,3", b":4\r\n"]


def test_increments_that_are_staged_together_are_refused_together_with_their_own_error() -> None:
    turn = turn_of({})
    turn.say("INCR", turn.count(1, "a"))
    refused = partial("EXECABORT {}".format)
    turn.say("EXEC", turn.together([Add("x", 1), Peek("y")], joined, refused))
    assert turn.asked == [Add("a", 1), Together([Add("x", 1), Peek("y")])]
    turn.settle(outcome(1, DiskFull("full"), DiskFull("full")))
    assert turn.take()[1] == [b":1\r\n", resp.error("EXECABORT full")]


def test_reads_that_are_staged_together_need_no_commit_unless_something_is_staged_before() -> None:
    turn = turn_of({"x": 7})
    assert turn.together([Peek("x")], joined, str) == b"7"
    turn.count(1, "y")
    assert turn.together([Peek("x")], joined, str) == Later(1, 1, joined, str)


def test_an_error_of_a_command_is_its_text_and_a_refusal_begins_with_its_code() -> None:
    assert error_text(resp.CommandError("ERR wrong")) == "ERR wrong"
    assert error_text(DiskFull("the disk is full")) == "MISCONF the disk is full"
