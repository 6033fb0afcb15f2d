"""The log and the metrics of a node: what an operator sees of it."""
