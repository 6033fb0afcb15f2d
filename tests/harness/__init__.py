"""What the process and network suites share: real node processes, a plain client, load, namespaces."""
