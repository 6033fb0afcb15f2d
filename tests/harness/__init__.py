"""The common parts of the process and network suites: real node processes, clients, load, network namespaces."""
