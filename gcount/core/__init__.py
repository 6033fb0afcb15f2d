"""What gcount knows, without doing anything: no I/O, no clock, no tasks, no randomness."""
