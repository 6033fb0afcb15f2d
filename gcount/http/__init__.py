"""HTTP: routes, errors as problems, and a fast path for plain requests."""
