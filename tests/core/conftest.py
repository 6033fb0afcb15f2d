"""What the tests of the core share."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from gcount.core.state import columns


@pytest.fixture(scope="module", params=["dense", "either form"])
def forms(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small columns are dense; so that all of it is proved of the other form, too, a few cells give it here."""
    small = 0 if request.param == "either form" else columns.SMALL
    with patch.object(columns, "SMALL", small), patch.object(columns, "SPAN", 1):
        yield
