"""What the tests of the core share."""

import pytest

from gcount.core.options import Options
from tests.core.histories import FORMS


@pytest.fixture(params=FORMS, ids=["dense", "either form"])
def forms(request: pytest.FixtureRequest) -> Options:
    """What makes small columns dense, and what gives them either form."""
    options: Options = request.param
    return options
