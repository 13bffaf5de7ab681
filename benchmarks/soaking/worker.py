"""A standalone worker: ``python -m soaking.worker NOTES``."""

from __future__ import annotations

import sys
from pathlib import Path

from optomatic.worker.__main__ import main

from . import notes

if __name__ == "__main__":
    notes.begin(Path(sys.argv[1]))
    sys.exit(main([]))
