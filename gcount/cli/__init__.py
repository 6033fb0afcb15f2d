"""What a person types: commands, signals and exit codes."""
