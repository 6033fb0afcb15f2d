"""The commands that Redis' clients may use."""
