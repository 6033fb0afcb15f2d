"""How the property tests of this room run: a busy machine may be slow, that is no failure."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from gcount.core import columns

settings.register_profile("core", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("core")


@pytest.fixture(scope="module", params=["dense", "either form"])
def forms(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small columns are dense; so that all of it is proved of the other form, too, a few cells give it here."""
    small = 0 if request.param == "either form" else columns.SMALL
    with patch.object(columns, "SMALL", small), patch.object(columns, "SPAN", 1):
        yield
