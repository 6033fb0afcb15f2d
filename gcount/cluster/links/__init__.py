"""Links: what two nodes say to each other, and who dials."""
