"""``python -m optomatic.worker``: a standalone worker (:mod:`optomatic.worker.cli`)."""

import sys

from optomatic.worker.cli import main

if __name__ == "__main__":
    sys.exit(main())
