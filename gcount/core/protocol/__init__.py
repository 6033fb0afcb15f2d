"""The protocol between nodes: messages, replication, consistent reads."""
