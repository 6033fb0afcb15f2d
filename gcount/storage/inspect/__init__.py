"""Tools for a data directory: the survey, and the repair, which needs a directory without a running node."""
