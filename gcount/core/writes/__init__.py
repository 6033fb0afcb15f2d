"""Changes of a replica: what clients ask, what is staged, and the batches made of it."""
