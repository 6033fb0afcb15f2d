"""A distributed database of grow-only counters."""
