"""Which starts of a node are alive: a restart replaces one for good, a copied directory makes two that alternate."""

import pytest

from gcount.core.options import DEFAULTS
from gcount.core.protocol.restarts import Restarts

MAX_NODES, MAX_BOOTS = DEFAULTS.max_restarted_nodes, DEFAULTS.max_starts
NODE, OTHER = b"node", b"other"


def start_id(number: int) -> bytes:
    return b"start %d" % number


def hello(restarts: Restarts, number: int, *, node: bytes = NODE) -> bool:
    """A start says hello, and more."""
    twin = restarts.said_hello(node, start_id(number))
    restarts.spoke(node, start_id(number))
    return twin


def test_any_number_of_restarts_shows_no_duplicate() -> None:
    restarts = Restarts()
    for number in range(3 * MAX_BOOTS):
        assert not hello(restarts, number)
        assert not hello(restarts, number)  # its link broke, and it dialled again


def test_two_processes_that_alternate_are_duplicates_from_the_third_hello_on() -> None:
    restarts = Restarts()
    assert [hello(restarts, number % 2) for number in range(6)] == [False, False, True, True, True, True]


def test_a_former_process_that_comes_back_is_a_duplicate() -> None:
    restarts = Restarts()
    assert not any(hello(restarts, number) for number in range(4))
    assert hello(restarts, 1)
    assert hello(restarts, 0)
    assert not hello(restarts, 0)


def test_a_later_process_that_only_said_hello_proves_no_duplicate() -> None:
    restarts = Restarts()
    hello(restarts, 1)
    restarts.said_hello(NODE, start_id(0))  # of a former life, long on its way
    assert not hello(restarts, 1)
    assert not hello(restarts, 1)


def test_a_late_hello_of_a_former_process_does_not_make_the_present_one_a_duplicate() -> None:
    restarts = Restarts()
    hello(restarts, 0)
    hello(restarts, 1)
    assert restarts.said_hello(NODE, start_id(0))  # which nobody is there to hear
    assert not hello(restarts, 1)


def test_messages_of_a_process_before_its_successor_prove_nothing_afterwards() -> None:
    restarts = Restarts()
    hello(restarts, 0)
    hello(restarts, 1)
    restarts.said_hello(NODE, start_id(2))
    assert not restarts.said_hello(NODE, start_id(1))
    assert not restarts.said_hello(NODE, start_id(2))


def test_messages_of_a_former_process_do_not_show_that_its_successor_is_alive() -> None:
    restarts = Restarts()
    hello(restarts, 0)
    restarts.said_hello(NODE, start_id(1))
    restarts.spoke(NODE, start_id(0))  # its last message was on its way
    assert not hello(restarts, 0)


def test_restarts_are_remembered_for_each_node_alone() -> None:
    restarts = Restarts()
    for number in range(4):
        assert not hello(restarts, number % 2, node=NODE if number % 2 else OTHER)
    assert not hello(restarts, 0, node=NODE)
    assert hello(restarts, 1, node=NODE)


@pytest.mark.parametrize(("others", "remembered"), [(MAX_BOOTS - 1, True), (MAX_BOOTS, False)])
def test_only_the_newest_restarts_of_each_node_are_remembered(others: int, remembered: bool) -> None:
    restarts = Restarts()
    for number in range(others + 1):
        hello(restarts, number)
    assert hello(restarts, 0) is remembered


@pytest.mark.parametrize(("others", "remembered"), [(MAX_NODES - 1, True), (MAX_NODES, False)])
def test_only_the_nodes_that_were_met_last_are_remembered(others: int, remembered: bool) -> None:
    restarts = Restarts()
    hello(restarts, 0)
    hello(restarts, 1)
    for number in range(others):
        hello(restarts, 0, node=b"%d" % number)
    assert hello(restarts, 0) is remembered


def test_a_node_that_is_met_again_is_not_the_next_to_be_forgotten() -> None:
    restarts = Restarts()
    hello(restarts, 0)
    for number in range(MAX_NODES - 1):
        hello(restarts, 0, node=b"%d" % number)
    hello(restarts, 1)  # now node 0 is the oldest
    hello(restarts, 0, node=OTHER)
    assert hello(restarts, 0)


def test_strangers_take_no_more_memory_than_the_limits_allow() -> None:
    restarts = Restarts()
    for number in range(2 * MAX_NODES):
        hello(restarts, 0, node=b"%d" % number)
        restarts.spoke(b"%d" % (number - MAX_NODES - 1), start_id(0))  # one that was forgotten, and still has a link
    assert max(len(restarts._seen), len(restarts._alive)) <= MAX_NODES
