"""Links: the connections between nodes, and the messages on them."""
