"""Storage: the port to a file system, the log in segments, checkpoints, and group commit."""
