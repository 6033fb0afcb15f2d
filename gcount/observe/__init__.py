"""What an operator sees of a node: its log and its metrics."""
