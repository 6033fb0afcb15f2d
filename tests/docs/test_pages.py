"""The commands on the pages do what the pages show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walk import walk
from tests.harness.processes import REPOSITORY

OPERATIONS = sorted((REPOSITORY / "docs" / "operations").glob("*.md"))
NAMED = [REPOSITORY / "docs" / name for name in ("tutorial.md", "api.md", "redis.md")]
FILES = [REPOSITORY / "README.md", *NAMED, *OPERATIONS]
PAGES = {str(file.relative_to(REPOSITORY)): file.read_text("utf-8") for file in FILES}


@pytest.mark.parametrize("name", PAGES)
async def test_every_command_of_a_page_does_what_the_page_shows(name: str, tmp_path: Path) -> None:
    """It also fails for a block that is neither run nor marked."""
    result = await walk(PAGES[name], name, tmp_path)
    if result.left_out:
        pytest.skip(f"{result.done} blocks were done; left out: {'; '.join(result.left_out)}")
