"""The formats on disk: the log, checkpoints, and the salvage of damaged ones."""
