"""A turn by itself: what is staged, what is read at once, and which answers wait for the commit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from gcount.errors import CounterLimitReached, DiskFull, Refusal
from gcount.redis import resp
from gcount.redis.turn import Later, SessionTurn, Turn, error_text
from gcount.storage.group_commit import Amounts


def joined(values: Sequence[int]) -> bytes:
    return b",".join([b"%d" % value for value in values])


class Counted:
    """A commit that tells what it was asked, and answers what it was told to."""

    def __init__(self, values: Sequence[int | Refusal]) -> None:
        self.values = values
        self.asked: list[tuple[list[tuple[str, int]], list[range]]] = []

    async def __call__(self, amounts: Amounts, together: list[range]) -> Sequence[int | Refusal]:
        self.asked.append((list(amounts), together))
        return self.values


def turn_of(values: dict[str, int]) -> SessionTurn:
    return SessionTurn(lambda name: values.get(name, 0))


def test_what_is_read_before_anything_is_staged_is_answered_at_once() -> None:
    turn = turn_of({"x": 7})
    assert turn.read(["x", "y"], joined) == b"7,0"
    assert turn.amounts == []
    turn.count(1, "x")
    assert turn.read(["x", "y"], joined) == Later(1, 2, joined)
    assert turn.amounts == [("x", 1), ("x", 0), ("y", 0)]


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


async def test_answers_stay_in_their_order_whatever_they_wait_for() -> None:
    turn, commit = turn_of({}), Counted([5, 5, 6])
    turn.say("INCR", turn.count(1, "x"))
    turn.say("PING", b"+PONG\r\n")
    turn.say("GET", turn.read(["x"], joined))
    turn.say("INCR", turn.count(1, "x"))
    assert turn.size == len(b"+PONG\r\n")
    await turn.settle(commit)
    assert commit.asked == [([("x", 1), ("x", 0), ("x", 1)], [])]
    assert turn.take() == (["INCR", "PING", "GET", "INCR"], [b":5\r\n", b"+PONG\r\n", b"5", b":6\r\n"])
    assert (turn.take(), turn.size, turn.amounts) == (([], []), 0, [])


async def test_a_refusal_is_the_answer_of_each_command_that_it_touches_and_of_no_other() -> None:
    turn = turn_of({})
    turn.say("INCR", turn.count(1, "x"))
    turn.say("MGET", turn.read(["x", "y"], joined))
    turn.say("INCR", turn.count(1, "y"))
    await turn.settle(Counted([CounterLimitReached("no more"), 0, 3, 4]))
    assert turn.take()[1] == [resp.error("OOM no more"), b"0,3", b":4\r\n"]


async def test_what_is_staged_together_is_refused_together_with_an_error_of_its_own() -> None:
    turn, commit = turn_of({}), Counted([1, DiskFull("full"), DiskFull("full")])
    turn.say("INCR", turn.count(1, "a"))
    refused = partial("EXECABORT {}".format)
    turn.say("EXEC", turn.together([("x", 1), ("y", 0)], joined, refused, counts=True))
    await turn.settle(commit)
    assert commit.asked == [([("a", 1), ("x", 1), ("y", 0)], [range(1, 3)])]
    assert turn.take()[1] == [b":1\r\n", resp.error("EXECABORT full")]


def test_reads_that_are_staged_together_need_no_commit_unless_something_is_staged_before() -> None:
    turn = turn_of({"x": 7})
    assert turn.together([("x", 0)], joined, str, counts=False) == b"7"
    turn.count(1, "y")
    assert turn.together([("x", 0)], joined, str, counts=False) == Later(1, 1, joined, str)


def test_an_error_of_a_command_is_its_text_and_a_refusal_begins_with_its_code() -> None:
    assert error_text(resp.CommandError("ERR wrong")) == "ERR wrong"
    assert error_text(DiskFull("the disk is full")) == "MISCONF the disk is full"
