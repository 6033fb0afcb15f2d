"""`python -m gcount`: the same as `gcount-node`."""

import sys

from gcount.cli.node import run

if __name__ == "__main__":
    sys.exit(run())
