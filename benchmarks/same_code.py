"""What comparing code costs, beside the key of the same object: a search in one process each.

``write`` is what the client does once a search, ``check`` what a worker does once a bundle; both as
ratios to the time that the fingerprint takes, medians of `--rounds`, and in milliseconds.  The
large module is a copy of scikit-learn's own ridge regression, 2,800 lines that are not installed.

Run it with ``python benchmarks/same_code.py [--rounds R]``.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sklearn.linear_model._ridge as ridge

from optomatic.plan.keys.fingerprint import fingerprint
from optomatic.plan.own_code.survey import Named, code_text
from optomatic.plan.packing import bundle
from optomatic.worker.same_code import Files, check_code

SMALL = """
from sklearn.base import BaseEstimator

def part(x):
    return x + 1

class Small(BaseEstimator):
    def __init__(self, value=0):
        self.value = value
    def fit(self, X, y):
        return self
    def score(self, X, y):
        return part(self.value)
"""


def modules(folder: Path) -> dict[str, Any]:
    """Return an object of a small and of a large module that are not installed."""
    large = Path(ridge.__file__).read_text()
    for dots, package in (("from ..", "sklearn."), ("from .", "sklearn.linear_model.")):
        large = large.replace(dots, f"from {package}")
    (folder / "small_model.py").write_text(SMALL)
    (folder / "large_model.py").write_text(large)
    sys.path.insert(0, str(folder))
    return {
        "small": importlib.import_module("small_model").Small(),
        "large": importlib.import_module("large_model").RidgeCV(),
    }


def median(call: Callable[[], Any], rounds: int) -> float:
    """Return the median of the seconds that `call` takes."""
    call()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for name, value in modules(Path(folder)).items():
            named = Named()
            bundle.dump(value, named)
            text = code_text(named)
            assert text is not None
            key = median(lambda value=value: fingerprint(value), rounds)
            write = median(lambda named=named: code_text(named), rounds)
            check = median(lambda text=text: check_code(text, Files()), rounds)
            print(
                f"{name}: write {write / key:.2f} x the key ({1e3 * write:.2f} ms), "
                f"check {check / key:.2f} x ({1e3 * check:.2f} ms), {len(text):,} characters"
            )


if __name__ == "__main__":
    main()
