"""A standalone worker that scores what is queued, and ends."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def work_off(uri):
    """Have a standalone worker score whatever is queued; it imports the modules of tests."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    worker = [sys.executable, "-m", "optomatic.worker", "--db", uri, "--until-empty"]
    subprocess.run(worker, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120)
