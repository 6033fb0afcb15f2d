"""A distributed database of grow-only counters."""

__version__ = "0.1.0"
