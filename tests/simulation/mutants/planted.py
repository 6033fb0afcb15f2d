"""The list of planted bugs, and how one of them is switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

Change = tuple[type | Any, str, Callable[[Any], Any]]
"""An object, the name of one of its attributes, and a function that makes the new attribute of the old one."""

MUTANTS: dict[str, Change] = {}


def mutant(target: Any, attribute: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Put a planted bug on the list, under its function's name."""

    def register(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
        MUTANTS[change.__name__.replace("_", "-")] = target, attribute, change
        return change

    return register


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Run with a planted bug, or with none."""
    if name is None:
        yield
        return
    target, attribute, change = MUTANTS[name]
    with patch.object(target, attribute, change(target.__dict__[attribute])):
        yield
