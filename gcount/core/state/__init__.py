"""The state of a node: counters, identity, membership, and what is staged."""
