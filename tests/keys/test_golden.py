"""Pinned digests are equal on every Python and with every hash seed."""

import json
import os
import subprocess
import sys

import pytest
from keys import golden


def test_digests_are_as_pinned():
    assert golden.digests() == json.loads(golden.FILE.read_text())


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_digests_are_as_pinned_with_another_hash_seed(seed):
    root = golden.FILE.parents[2]
    found = subprocess.run(
        [sys.executable, golden.FILE.with_suffix(".py")],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
