"""What the tests of the harness share."""

from collections.abc import Iterator

import pytest

from tests.harness.namespaces import Network, why_not


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := why_not():
        pytest.skip(reason)
    with Network(3) as made:
        yield made
