"""Which starts of a node are alive: a restart replaces one for good, a copied directory makes two that alternate."""

import pytest

from gcount.core.options import DEFAULTS
from gcount.core.protocol.restarts import Boots

MAX_NODES, MAX_BOOTS = DEFAULTS.max_boot_nodes, DEFAULTS.max_boots
NODE, OTHER = b"node", b"other"


def boot(number: int) -> bytes:
    return b"boot %d" % number


def hello(boots: Boots, number: int, *, node: bytes = NODE) -> bool:
    """A boot says hello, and more."""
    twin = boots.met(node, boot(number))
    boots.spoke(node, boot(number))
    return twin


def test_any_number_of_restarts_makes_no_twin() -> None:
    boots = Boots()
    for number in range(3 * MAX_BOOTS):
        assert not hello(boots, number)
        assert not hello(boots, number)  # its link broke, and it dialled again


def test_two_lives_that_alternate_are_twins_from_the_third_hello_on() -> None:
    boots = Boots()
    assert [hello(boots, number % 2) for number in range(6)] == [False, False, True, True, True, True]


def test_one_of_many_lives_that_comes_back_is_a_twin() -> None:
    boots = Boots()
    assert not any(hello(boots, number) for number in range(4))
    assert hello(boots, 1)
    assert hello(boots, 0)
    assert not hello(boots, 0)


def test_a_life_that_followed_but_said_no_more_than_hello_proves_no_twin() -> None:
    boots = Boots()
    hello(boots, 1)
    boots.met(NODE, boot(0))  # of a former life, long on its way
    assert not hello(boots, 1)
    assert not hello(boots, 1)


def test_a_late_hello_of_a_former_life_makes_no_twin_of_the_one_that_is_alive() -> None:
    boots = Boots()
    hello(boots, 0)
    hello(boots, 1)
    assert boots.met(NODE, boot(0))  # which nobody is there to hear
    assert not hello(boots, 1)


def test_what_a_life_said_before_another_followed_proves_nothing_afterwards() -> None:
    boots = Boots()
    hello(boots, 0)
    hello(boots, 1)
    boots.met(NODE, boot(2))
    assert not boots.met(NODE, boot(1))
    assert not boots.met(NODE, boot(2))


def test_what_a_former_life_says_does_not_show_that_its_successor_is_alive() -> None:
    boots = Boots()
    hello(boots, 0)
    boots.met(NODE, boot(1))
    boots.spoke(NODE, boot(0))  # its last message was on its way
    assert not hello(boots, 0)


def test_each_node_has_lives_of_its_own() -> None:
    boots = Boots()
    for number in range(4):
        assert not hello(boots, number % 2, node=NODE if number % 2 else OTHER)
    assert not hello(boots, 0, node=NODE)
    assert hello(boots, 1, node=NODE)


@pytest.mark.parametrize(("others", "remembered"), [(MAX_BOOTS - 1, True), (MAX_BOOTS, False)])
def test_of_each_node_only_the_newest_boots_are_remembered(others: int, remembered: bool) -> None:
    boots = Boots()
    for number in range(others + 1):
        hello(boots, number)
    assert hello(boots, 0) is remembered


@pytest.mark.parametrize(("others", "remembered"), [(MAX_NODES - 1, True), (MAX_NODES, False)])
def test_only_the_nodes_that_were_met_last_are_remembered(others: int, remembered: bool) -> None:
    boots = Boots()
    hello(boots, 0)
    hello(boots, 1)
    for number in range(others):
        hello(boots, 0, node=b"%d" % number)
    assert hello(boots, 0) is remembered


def test_a_node_that_is_met_again_is_not_the_next_to_be_forgotten() -> None:
    boots = Boots()
    hello(boots, 0)
    for number in range(MAX_NODES - 1):
        hello(boots, 0, node=b"%d" % number)
    hello(boots, 1)  # now node 0 is the oldest
    hello(boots, 0, node=OTHER)
    assert hello(boots, 0)


def test_strangers_take_no_more_memory_than_the_limits_allow() -> None:
    boots = Boots()
    for number in range(2 * MAX_NODES):
        hello(boots, 0, node=b"%d" % number)
        boots.spoke(b"%d" % (number - MAX_NODES - 1), boot(0))  # one that was forgotten, and still has a link
    assert max(len(boots._seen), len(boots._alive)) <= MAX_NODES
