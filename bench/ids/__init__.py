"""What ids of increments cost: see bench/README.md."""
