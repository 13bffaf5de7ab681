"""What the queue costs: units a second beside GridSearchCV, sequential and with loky.

All variants run side by side in one process, in turn, on the embedded server; the table
shows medians.  Each run of MongoSearchCV has data of its own, so that nothing is stored
yet, but for the row that measures stored units.

Run it with ``python benchmarks/overhead.py [--units N] [--rounds R]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV

from optomatic import MongoSearchCV


class Idle(ClassifierMixin, BaseEstimator):
    """Takes `seconds` to fit (waiting, so that two cores do not matter) and scores `value`."""

    def __init__(self, seconds: float = 0.0, value: int = 0) -> None:
        self.seconds = seconds
        self.value = value

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if self.seconds:
            time.sleep(self.seconds)
        return self

    def score(self, X, y):
        return float(self.value % 7)


def variants(jobs: int) -> dict[str, Callable[[Idle, dict], object]]:
    """Return the searches that are compared; each is made anew for each run."""
    fixed = {"cv": 5, "refit": False}
    return {
        "GridSearchCV": lambda e, g: GridSearchCV(e, g, **fixed),
        f"GridSearchCV, loky, n_jobs={jobs}": lambda e, g: GridSearchCV(e, g, n_jobs=jobs, **fixed),
        "MongoSearchCV": lambda e, g: MongoSearchCV(e, g, **fixed),
        f"MongoSearchCV, n_jobs={jobs}": lambda e, g: MongoSearchCV(e, g, n_jobs=jobs, **fixed),
    }


def measure(seconds: float, n_units: int, rounds: int, jobs: int) -> dict[str, float]:
    """Return the median seconds of a fit of `n_units`, by variant, and of one that is stored."""
    grid = {"value": list(range(n_units // 5))}
    times: dict[str, list[float]] = {}
    rng = np.random.default_rng()
    for made in variants(jobs).values():  # warm: start workers and server, import everything
        made(Idle(), {"value": [1, 2]}).fit(rng.random((50, 2)), np.arange(50) % 2)
    for _ in range(rounds):
        X, y = rng.random((50, 2)), np.arange(50) % 2
        for name, made in variants(jobs).items():
            X = rng.random((50, 2))
            times.setdefault(name, []).append(timed(made(Idle(seconds), grid), X, y))
        stored = MongoSearchCV(Idle(seconds), grid, cv=5, refit=False)
        times.setdefault("MongoSearchCV, all stored", []).append(timed(stored, X, y))
    return {name: statistics.median(values) for name, values in times.items()}


def timed(search, X, y) -> float:
    """Return the seconds of one fit."""
    began = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - began


def main() -> None:
    """Measure both kinds of units and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1000, help="units a fit (default 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="fits a variant (default 5)")
    parser.add_argument("--jobs", type=int, default=2, help="workers (default 2)")
    chosen = parser.parse_args()
    columns = {
        "almost nothing": measure(0.0, chosen.units, chosen.rounds, chosen.jobs),
        "10 ms": measure(0.01, chosen.units, chosen.rounds, chosen.jobs),
    }
    print(f"{chosen.units} units a fit, medians of {chosen.rounds}, units a second:\n")
    print(f"| | units of {' | units of '.join(columns)} |")
    print("| --- " + "| ---: " * len(columns) + "|")
    for name in next(iter(columns.values())):
        rates = (f"{chosen.units / column[name]:,.0f}" for column in columns.values())
        print(f"| {name} | {' | '.join(rates)} |")


if __name__ == "__main__":
    main()
