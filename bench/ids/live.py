"""How many live ids a node has."""

from __future__ import annotations

import json

from bench.client import get
from bench.nodes import Node


async def live(node: Node) -> int:
    """The ids that a node holds and that no settlement covers."""
    return int(json.loads(await node.ask(get("/status")))["ids"]["live"])
