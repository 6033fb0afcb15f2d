"""One node: what can be asked of it, by every protocol."""
