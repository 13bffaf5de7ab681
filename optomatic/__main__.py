"""``python -m optomatic``: the command line."""

import sys

from optomatic.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
