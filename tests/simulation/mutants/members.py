"""Planted bugs of members: which entry is this node, which node is at an address, what it learns of itself."""

from __future__ import annotations

from typing import Any

from gcount.cluster.heard_versions import HeardVersions
from gcount.cluster.links.duplicates import Originals, Visit
from gcount.cluster.links.peer import Peer
from gcount.cluster.members import Members
from gcount.core.protocol.consistent_read import Round
from gcount.core.protocol.messages import Hello
from gcount.core.protocol.read_rounds import Ask, Effect, ReadRounds
from gcount.core.state.identity import Identity
from gcount.core.writes.pending import Pending
from tests.simulation.mutants.planted import mutant

# Which node is at an address


@mutant(Members, "here")
def own_entry_for_ever(here: Any) -> Any:
    """An entry that was once this node's own stays its own for ever."""

    def change(self: Members) -> list[str]:
        known: set[str] = self.__dict__.setdefault("known", set())
        known.update(here.fget(self))
        return [entry for entry in self._replica.membership.actors if entry in known]

    return property(change)


@mutant(Round, "_other_entry")
def round_counts_addresses(_: Any) -> Any:
    """A round is over when all addresses have answered, though two of them lead to one node."""
    return lambda self, address, node: None


@mutant(ReadRounds, "linked")
def asked_again_in_the_same_round(_: Any) -> Any:
    """A member whose link returns is asked again in the round that it had not answered."""

    def change(self: ReadRounds, address: str, node: bytes, now: float) -> list[Effect]:
        return [
            Ask(address, round_.number, pending.name, round_.hold)
            for pending in self._pending.values()
            for round_ in pending.rounds
            if address in round_.missing
        ]

    return change


@mutant(Peer, "has")
def held_one_version_early(has: Any) -> Any:
    """A member that has the version before is taken to have this one."""
    return lambda self, versions: has(self, {who: version - 1 for who, version in versions.items()})


@mutant(Originals, "up")
def copy_named_by_its_own_config(up: Any) -> Any:
    """A duplicate of a member is accepted though only a config of its own names it."""

    def change(self: Originals, hello: Hello, since: float) -> list[str]:
        told = self._replica.membership.merge(hello.membership).actors
        return [] if hello.entry in told else up(self, hello, since)

    return change


@mutant(Visit, "counts")
def copy_let_in_for_good(_: Any) -> Any:
    """A duplicate that was accepted while its original was down is never checked again."""
    return lambda self: True


# What an owner knows of its incarnations


@mutant(HeardVersions, "hear")
def seen_without_rumours(_: Any) -> Any:
    """A node that comes back is not told what a third node has of its incarnation."""
    return lambda self, digest: None


@mutant(Identity, "reborn")
def only_the_last_life_remembered(reborn: Any) -> Any:
    """A new incarnation retires the last one, and forgets those before."""

    def change(self: Identity, *ids: Any) -> Identity:
        new: Identity = reborn(self, *ids)
        return Identity(new.node, new.incarnation, new.retired[-1:])

    return change


@mutant(Pending, "may_be_reborn")
def one_life_too_many(_: Any) -> Any:
    """The limit of incarnations is checked one incarnation too late."""
    return property(lambda self: self.all_incarnations <= self._replica.options.reborn_below)
