"""The command line: `gcount-node` starts a node, `gcount` checks and repairs data directories."""
