"""The examples of scoring functions run, and remember."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_driver_scores_nothing_twice(uri):
    def run():
        return subprocess.run(
            [sys.executable, "driver.py"],
            cwd=EXAMPLES,
            env={**os.environ, "OPTOMATIC_DB": uri},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout

    assert re.findall(r"(\d+) stored, (\d+) scored", run()) == [("0", "6"), ("0", "4"), ("4", "4")]
    assert re.findall(r"(\d+) stored, (\d+) scored", run()) == [("6", "0"), ("4", "0"), ("8", "0")]


def test_the_guided_searches_run(uri):
    done = subprocess.run(
        [sys.executable, "generators.py"],
        cwd=EXAMPLES,
        env={**os.environ, "OPTOMATIC_DB": uri},
        capture_output=True,
        text=True,
        check=True,
        timeout=170,
    )
    assert done.stdout.count("best: {") == 6
    assert re.search(r"\d+ of 40 left out: .*\d+ unpromising", done.stdout)
    assert "12 candidates were no better" in done.stdout
