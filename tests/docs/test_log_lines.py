"""The page on troubleshooting has every event of the log, and every error that ends a node."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gcount import errors
from gcount.storage.disk import FULL, shortage
from tests.harness.processes import REPOSITORY

PAGE = (REPOSITORY / "docs" / "operations" / "troubleshooting.md").read_text("utf-8")
LOGGERS = {"logger", "log"}
LEVELS = {"info", "warning", "error", "critical"}


def events(source: str) -> Iterator[str]:
    """The constant beginning of each event that a file logs."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=level), args=[event, *_]):
                if name in LOGGERS and level in LEVELS:
                    yield from constants(event)
            case ast.Call(func=ast.Name(id="Throttle"), args=[event, *_]):
                yield from constants(event)
            case ast.Assign(targets=[ast.Name(id="event")], value=event):
                yield from constants(event)


def constants(event: ast.expr) -> Iterator[str]:
    match event:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from constants(one)
            yield from constants(other)


def all_events() -> list[str]:
    files = sorted((REPOSITORY / "gcount").rglob("*.py"))
    found = {event for file in files for event in events(Path(file).read_text("utf-8"))}
    return sorted(found | {shortage(FULL), shortage("")})


@pytest.mark.parametrize("event", all_events())
def test_the_page_explains_each_event(event: str) -> None:
    table = PAGE.partition("## Log lines")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    assert any(f"`{event}" in row for row in rows), f"troubleshooting.md does not explain {event!r}"


def test_events_are_found() -> None:
    found = all_events()
    assert len(found) > 30
    assert {"checkpoint", "ready on http://", "link refused", "disk full", "log writable again"} <= set(found)


@pytest.mark.parametrize(
    "error",
    [
        errors.LogDamaged("data/1/00000001.log", 64, "a reason"),
        errors.NotInPlace("data/1"),
        errors.Unreadable("data/1/00000001.log", "Input/output error", bad=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_page_has_the_words_of_what_ends_a_node(error: errors.Fatal) -> None:
    table = PAGE.partition("## The node does not start")[2].partition("\n## ")[0]
    quoted = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    beginnings = [text.partition(": FILE")[0].partition("...")[0].strip() for text in quoted]
    assert any(beginning in str(error) for beginning in beginnings), str(error)
