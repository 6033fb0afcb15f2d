"""A node, and the requests that it answers, the same for every protocol."""
