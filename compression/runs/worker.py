"""The entry point ``python -m compression.runs.worker RUN_DIR`` of :mod:`compression.jobs.worker`.

Launchers, clusters and programs of earlier versions name it, so it stays where it is; nothing else imports it.
"""

import sys

from compression.jobs.worker import main

if __name__ == "__main__":
    sys.exit(main())
