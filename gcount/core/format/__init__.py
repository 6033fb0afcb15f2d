"""What is written on disk: the log, checkpoints, and what is left of damaged ones."""
