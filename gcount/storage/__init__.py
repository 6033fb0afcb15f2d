"""What is on disk: the port to a file system, the log in segments, and the group commit."""
