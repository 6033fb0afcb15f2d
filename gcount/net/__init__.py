"""Connections: listeners, a pool of them with limits, and what receives and answers."""
