"""The Redis protocol: sessions with Redis clients, and the commands that they may use."""
