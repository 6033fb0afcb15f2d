"""What nodes know of a counter, made from what a test says."""

from gcount.core.protocol.counter_views import Cells, Found, Own
from gcount.core.state.counters import Digest


def found(cells: Cells, parts: Cells | None = None, changed: Digest | None = None) -> Found:
    """What another node has."""
    return Found(cells, parts or {}, changed or {})


def own(cells: Cells, parts: Cells | None = None, digest: Digest | None = None, keyed: int = 0) -> Own:
    """What the node has that reads."""
    return Own(found(cells, parts), digest or {}, keyed, {})
