"""Decides by its time whether a new id of an increment is taken. Ids that are known are not asked about here."""

from collections.abc import Callable
from typing import Final

import msgspec

from gcount.errors import IdAhead, IdGone, Refusal

DEFAULT_WINDOW: Final = 3600.0  # seconds
DEFAULT_MOST: Final = 1_000_000
MAX_AHEAD: Final = 300  # seconds that an id may be ahead of this node's clock


class IdRules(msgspec.Struct, frozen=True):
    """What a node asks of ids that it does not know.

    Args:
        now: returns the wall clock, in seconds since 1970.
        unavailable: returns why no ids can be taken yet; an empty text when they can. It is asked only while ids are
            not in use.
        window: for how many seconds after its time an id is taken.
        most: with so many ids that are not settled, clients can bring no more. Those of members are always taken.
        is_known: returns whether an incarnation is this node's or a member's. The ids of others count apart.
    """

    now: Callable[[], float]
    unavailable: Callable[[], str]
    window: float = DEFAULT_WINDOW
    most: int = DEFAULT_MOST
    is_known: Callable[[bytes], bool] = lambda _: True

    @property
    def grace(self) -> float:
        """How much later than it refuses ids a node promises that, in seconds.

        That is more than clocks differ, and more than messages and configs need to spread.
        """
        return self.window / 4

    @property
    def most_of_strangers(self) -> int:
        """With so many ids that no member holds, nodes that are not members can bring no more."""
        return max(1, self.most // 4)

    @property
    def latest_of_strangers(self) -> float:
        """Ids with a later time are not taken from nodes that are not members, in seconds since 1970.

        No settlement would reach them for long. Such a node may be a former member, of which the clock differs.
        """
        return self.now() + MAX_AHEAD + self.grace

    def refusal(self, id_: str, time: int, floor: int) -> Refusal | None:
        """Why an id can't be taken by its time; None when it can.

        Args:
            id_: the id.
            time: its time, in seconds since 1970.
            floor: this node takes no id with a time up to here any more; -1 when it has promised nothing.
        """
        now = self.now()
        if time <= floor or time <= now - self.window:
            return IdGone(
                f"the id {id_} was made at {time} s since 1970, this node's clock shows {now:.0f}, and an id is taken "
                f"for {self.window:g} s. Whether it was counted before can't be told any more; nothing was changed now"
            )
        if time > now + MAX_AHEAD:
            return IdAhead(
                f"the id {id_} was made at {time} s since 1970, but this node's clock shows {now:.0f}; an id may be "
                f"ahead by {MAX_AHEAD} s at most: set the clocks, or send it again later"
            )
        return None


NO_IDS: Final = IdRules(lambda: 0.0, lambda: "this node takes no ids", most=0)
"""The rules of a writer that has none."""
