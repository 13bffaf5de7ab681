"""What a search costs whose units are all stored: seconds and commands for 20,000 of them.

The estimator does nothing and there is no refit, so that all the time is ours.  The search that
fills the store is timed too, and the least that could be asked for: one query of all scores, and
scikit-learn's table of them.  Each round has data of its own.

Run it with ``python benchmarks/stored.py [--units N] [--rounds R]``.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from pymongo import MongoClient, monitoring
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV, ParameterGrid

from optomatic import MongoSearchCV
from optomatic.embedded.server import serve
from optomatic.store.connection import open_store

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


def fit(X, y, n_units: int, commands: Commands) -> tuple[float, int, MongoSearchCV]:
    """Return the seconds and the commands of one fit, and the search."""
    grid = {"value": list(range(n_units // N_SPLITS))}
    search = MongoSearchCV(Dummy(), grid, cv=N_SPLITS, refit=False)
    before, began = commands.sent, time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - began, commands.sent - before, search


def query_and_table(search: MongoSearchCV) -> float:
    """Return the seconds of reading the scores of a search in one query, and of their table."""
    with open_store(None) as store:
        keys = [unit_id.split(":")[1] for unit_id in store.searches.unit_ids(search.search_id_)]
    with MongoClient(serve()) as client:
        units = client.get_default_database()["units"]
        began = time.perf_counter()
        scores = units.find({"key": {"$in": keys}}, {"key": 1, "result": 1})
        found = {one["key"]: one["result"] for one in scores}
        results = [found[key] for key in keys]
        rows = [
            {"test_scores": one["test"], "fit_time": one["fit_time"],
             "score_time": one["score_time"], "n_test_samples": one["n_test"]}
            for one in results
        ]  # fmt: skip
        candidates = list(ParameterGrid(search.param_grid))
        GridSearchCV(Dummy(), {})._format_results(candidates, N_SPLITS, rows)
        return time.perf_counter() - began


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=20_000, help="units (default 20,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    chosen = parser.parse_args()
    commands = Commands()
    monitoring.register(commands)
    rng = np.random.default_rng()
    fresh, stored, least, ratios = [], [], [], []
    for _ in range(chosen.rounds):
        X, y = rng.random((50, 2)), np.arange(50) % 2
        fresh.append(fit(X, y, chosen.units, commands))
        stored.append(fit(X, y, chosen.units, commands))
        least.append(query_and_table(stored[-1][2]))
        ratios.append(stored[-1][0] / least[-1])
    for name, fits in (("scored", fresh), ("stored", stored)):
        seconds = statistics.median(s for s, *_ in fits)
        sent = max(n for _, n, _ in fits)
        each = 1e6 * seconds / chosen.units
        print(
            f"{chosen.units:,} units {name}: {seconds:.2f} s, {each:.0f} us a unit, {sent} commands"
        )
    print(
        f"one query of {chosen.units:,} units and their table: {statistics.median(least):.2f} s; "
        f"stored takes {statistics.median(ratios):.2f} times that"
    )


if __name__ == "__main__":
    main()
