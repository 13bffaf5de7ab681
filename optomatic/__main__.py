"""``python -m optomatic``: the command line."""

from __future__ import annotations

import sys

from optomatic.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
