"""The logic of gcount without side effects: no I/O, no clock, no tasks, no randomness."""
