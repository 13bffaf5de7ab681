"""The examples of scoring functions run, and remember."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def folder(tmp_path):
    """The driver and its functions in a directory of their own: it writes into it."""
    for name in ("driver.py", "scoring.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    return tmp_path


def run(folder, *command, **environ):
    """Run Python in `folder`; return what it prints."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_driver_scores_nothing_twice(uri, folder):
    said = run(folder, "driver.py", OPTOMATIC_DB=uri)
    assert re.findall(r"(\d+) stored, (\d+) scored", said) == [("0", "6"), ("0", "4"), ("4", "4")]
    assert "it stopped after" in said


def test_workers_do_the_units_that_the_driver_leaves(uri, folder):
    said = run(folder, "driver.py", "--leave", OPTOMATIC_DB=uri)
    (command,) = re.findall(r"terminals: python (.*)", said)
    # The worker is told of no database: it finds the definition.
    run(folder, *command.split(), OPTOMATIC_CACHE_DIR=str(folder / "cache"))
    said = run(folder, "driver.py", OPTOMATIC_DB=uri)
    assert re.findall(r"(\d+) stored, (\d+) scored", said) == [("6", "0"), ("4", "0"), ("8", "0")]


def test_the_guided_searches_run(uri):
    said = run(EXAMPLES, "generators.py", OPTOMATIC_DB=uri)
    assert said.count("best: {") == 6
    assert re.search(r"\d+ of 40 left out: .*\d+ unpromising", said)
    assert "12 candidates were no better" in said
