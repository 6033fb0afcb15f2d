"""The durable state of a node: counters, ids of increments, identity and membership."""
