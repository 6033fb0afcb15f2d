"""What nodes agree on: messages, replication, consistent reads."""
