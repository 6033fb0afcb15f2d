"""What the addresses and names of a config lead to: each to its own machine, until one moves or a name is stale.

What it promises: an entry leads to one machine for each observer at any instant. All see the same, but for those whose
table of names is said to be stale.
"""

from __future__ import annotations

from collections.abc import Callable


class Names:
    """A table of where each entry of a config leads to, for all and for each machine that sees it otherwise.

    A machine is known by its own address, at which it listens whatever the entries say.

    Args:
        end: called with an entry to which no dialled connection stands any more.
    """

    def __init__(self, end: Callable[[str], None]) -> None:
        self._end = end
        self._moved: dict[str, str] = {}
        self._stale: dict[tuple[str, str], str] = {}  # by observer and entry

    def lead(self, entry: str, to: str, observer: str | None = None, *, breaks: bool = False) -> None:
        """Let an entry lead to another machine from now on.

        Args:
            entry: as it stands in a config.
            to: the machine's own address.
            observer: the only machine that sees it so, as its table of names is stale; None: the address has moved.
            breaks: whether connections that were dialled to it end: as those to an address that moved do sooner or
                later, and those to a name that changed do not.
        """
        if observer is None:
            self._moved[entry] = to
        else:
            self._stale[observer, entry] = to
        if breaks:
            self._end(entry)

    def mend(self, *entries: str, breaks: bool = False) -> None:
        """Let these entries, or all, lead to their own machines again."""
        self._moved = {entry: to for entry, to in self._moved.items() if entries and entry not in entries}
        self._stale = {key: to for key, to in self._stale.items() if entries and key[1] not in entries}
        for entry in entries if breaks else ():
            self._end(entry)

    def leads_to(self, observer: str, entry: str) -> str:
        """The machine that is reached at an entry."""
        return self._stale.get((observer, entry)) or self._moved.get(entry, entry)
