"""What the network sees of a node: its connections, its HTTP routes and the door for links."""
