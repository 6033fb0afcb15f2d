"""One node: what can be asked of it, whoever asks."""
