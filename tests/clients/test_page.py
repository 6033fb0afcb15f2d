"""The advice in docs/clients.md for increments without ids is what the programs here do."""

from __future__ import annotations

import re

import pytest

from tests.clients.known import CLIENTS, PROGRAMS
from tests.harness.processes import REPOSITORY

PAGE = (REPOSITORY / "docs" / "clients.md").read_text("utf-8")
WITHOUT_IDS = re.sub(r"^## Increments with ids\n.*?(?=^## )", "", PAGE, flags=re.DOTALL | re.MULTILINE)
BLOCKS = re.findall(r"```(?:python|js|php|sh)\n(.*?)```", WITHOUT_IDS, re.DOTALL)


def plain(text: str) -> str:
    """A program's text without the parts that a formatter may change, or that only this program has."""
    return re.sub(r"[\s;,]+", "", text.replace("curl ", "").replace("-d 1 URL", ""))


@pytest.mark.parametrize("block", BLOCKS)
def test_the_pages_advice_is_what_was_measured(block: str) -> None:
    programs = plain("".join(program.read_text("utf-8") for program in sorted(PROGRAMS.iterdir()) if program.is_file()))
    for statement in re.split(r"(?<=[;)])\n(?=\S)", block):
        assert plain(statement) in programs, statement


def test_the_table_has_every_client() -> None:
    table = PAGE.partition("<!-- measured")[2]
    for client in CLIENTS:
        for settings in client.settings:
            row = rf"^\| {re.escape(client.name)} \([^|]*\) \| {settings} \|"
            assert re.search(row, table, re.MULTILINE), f"{client.name}, {settings}"
    assert len(BLOCKS) == 8
