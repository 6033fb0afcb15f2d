"""Looks at a data directory that no node runs on: survey and repair."""
