"""The soak of benchmarks/, for one round of it."""

import re
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_workers_and_server_are_killed_and_nothing_is_lost_or_recorded_twice(mongod):
    soak = [sys.executable, str(SOAK), "--minutes", "0", "--workers", "2"]
    ended = subprocess.run(soak, capture_output=True, text=True, timeout=170)
    counts = {name: int(n) for name, n in re.findall(r"^(.+): (\d+)$", ended.stdout, re.MULTILINE)}
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (counts["workers killed"], counts["servers killed"]) == (2, 1)
    assert counts["acknowledged and lost"] == counts["recorded twice"] == 0
    assert 0 < counts["acknowledged"] <= counts["completed"]
    assert counts["completed"] + counts["given up"] == counts["units"]
