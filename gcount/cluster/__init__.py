"""The cluster: links to the other nodes, and the reads that ask them all."""
