"""Where the entries of a config lead: each to its own machine, until an address moves or a name is stale.

What it promises: at any instant an entry leads to one machine for each observer. All observers see the same machine,
except those with a stale table of names.
"""

from __future__ import annotations

from collections.abc import Callable


class Names:
    """A table of where each entry of a config leads: for all machines, and for each machine that sees it differently.

    A machine is known by its own address. It listens there, wherever the entries lead.

    Args:
        end: called with an entry when all connections that were dialled to it have to end.
    """

    def __init__(self, end: Callable[[str], None]) -> None:
        self._end = end
        self._moved: dict[str, str] = {}
        self._stale: dict[tuple[str, str], str] = {}  # by observer and entry

    def lead(self, entry: str, to: str, observer: str | None = None, *, breaks: bool = False) -> None:
        """Make an entry lead to another machine from now on.

        Args:
            entry: the entry, as it is in a config.
            to: the machine's own address.
            observer: the only machine that sees this change, because its table of names is stale; None if the address
                has moved, so that all machines see it.
            breaks: whether connections that were dialled to the entry end. Those to an address that moved end sooner or
                later; those to a name that changed do not.
        """
        if observer is None:
            self._moved[entry] = to
        else:
            self._stale[observer, entry] = to
        if breaks:
            self._end(entry)

    def mend(self, *entries: str, breaks: bool = False) -> None:
        """Make these entries, or all, lead to their own machines again."""
        self._moved = {entry: to for entry, to in self._moved.items() if entries and entry not in entries}
        self._stale = {key: to for key, to in self._stale.items() if entries and key[1] not in entries}
        for entry in entries if breaks else ():
            self._end(entry)

    def leads_to(self, observer: str, entry: str) -> str:
        """The machine that is reached at an entry."""
        return self._stale.get((observer, entry)) or self._moved.get(entry, entry)
