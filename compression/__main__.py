"""``python -m compression``: the command line."""

import sys

from compression.cli import main

if __name__ == "__main__":
    sys.exit(main())
