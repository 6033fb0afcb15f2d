"""What the pages tell a reader to type does what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walk import walk
from tests.harness.processes import REPOSITORY

OPERATIONS = sorted((REPOSITORY / "docs" / "operations").glob("*.md"))
PAGES = [REPOSITORY / "README.md", *(REPOSITORY / "docs" / name for name in ("tutorial.md", "api.md")), *OPERATIONS]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
async def test_every_command_of_a_page_does_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    """A block that is neither run nor marked fails it, too."""
    result = await walk(page.read_text("utf-8"), page.name, tmp_path)
    if result.left_out:
        pytest.skip(f"{result.done} blocks were done; left out: {'; '.join(result.left_out)}")
