"""The HTTP door: routes, problems, and a fast path for plain requests."""
