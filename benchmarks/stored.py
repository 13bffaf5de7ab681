"""What a search costs whose units are all stored: seconds and commands for 20,000 of them.

The estimator does nothing and there is no refit, so that all the time is ours.  The search that
fills the store is timed too, beside it.  Each round has data of its own.

Run it with ``python benchmarks/stored.py [--units N] [--rounds R]``.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from pymongo import monitoring
from sklearn.base import BaseEstimator, ClassifierMixin

from optomatic import MongoSearchCV

N_SPLITS = 5


class Dummy(ClassifierMixin, BaseEstimator):
    """Learns nothing; its score is its parameter."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def fit(self, X, y):
        return self

    def score(self, X, y):
        return float(self.value % 7)


class Commands(monitoring.CommandListener):
    """Counts the commands that clients of this process send."""

    def __init__(self) -> None:
        self.sent = 0

    def started(self, event) -> None:
        self.sent += 1

    def succeeded(self, event) -> None:
        """Nothing to do."""

    def failed(self, event) -> None:
        """Nothing to do."""


def fit(X, y, n_units: int, commands: Commands) -> tuple[float, int]:
    """Return the seconds and the commands of one fit."""
    grid = {"value": list(range(n_units // N_SPLITS))}
    search = MongoSearchCV(Dummy(), grid, cv=N_SPLITS, refit=False)
    before, began = commands.sent, time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - began, commands.sent - before


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=20_000, help="units (default 20,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    chosen = parser.parse_args()
    commands = Commands()
    monitoring.register(commands)
    rng = np.random.default_rng()
    fresh, stored = [], []
    for _ in range(chosen.rounds):
        X, y = rng.random((50, 2)), np.arange(50) % 2
        fresh.append(fit(X, y, chosen.units, commands))
        stored.append(fit(X, y, chosen.units, commands))
    for name, fits in (("scored", fresh), ("stored", stored)):
        seconds = statistics.median(s for s, _ in fits)
        sent = max(n for _, n in fits)
        each = 1e6 * seconds / chosen.units
        print(
            f"{chosen.units:,} units {name}: {seconds:.2f} s, {each:.0f} us a unit, {sent} commands"
        )


if __name__ == "__main__":
    main()
