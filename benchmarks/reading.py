"""What looking at a large search costs, beside one query of all its units.

A search of so many units is made (its estimator does nothing), or found again from the last run.
Then each member that reads it is timed in turn: the seconds, those of making the table of what
was read, and how many such queries the rest is.

Run it with ``python benchmarks/reading.py [--units N] [--rounds R]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from optomatic import MongoSearchCV, attach
from optomatic.results.table import cv_results_of
from optomatic.search import shared_methods
from optomatic.search.reader import SearchReader
from optomatic.store.connection import open_store
from optomatic.store.documents import InspectedForm, fields_of

N_SPLITS = 5


class Dummy(ClassifierMixin, BaseEstimator):
    """Learns nothing; its score is its parameter, and each hundredth fit fails."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def fit(self, X, y):
        if self.value % 100 == 99:
            raise ValueError(f"{self.value} is too much")
        return self

    def score(self, X, y):
        return float(self.value % 7)


def seconds_of(call: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of a call."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def query_all(search_id: str) -> int:
    """Read all units of a search in one query, as documents."""
    with open_store(None) as store:
        ids = store.searches.unit_ids(search_id)
        units = store.jobs._units.collection
        keys = [unit_id.split(":")[1] for unit_id in ids]
        query = {"key": {"$in": keys}}
        return len(list(units.find(query, fields_of(InspectedForm), batch_size=5000)))


def table_seconds(search_id: str, level: str, rounds: int) -> float:
    """Return the median seconds of making the table of what was read."""
    with open_store(None) as store:
        read = SearchReader(store, search_id).candidate_rows()
    return seconds_of(lambda: shared_methods._LEVELS[level](read), rounds)


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=100_000, help="units (default 100,000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    chosen = parser.parse_args()
    X, y = np.random.default_rng(0).random((50, 2)), np.arange(50) % 2
    grid = {"value": list(range(chosen.units // N_SPLITS))}
    name = f"reading {chosen.units}"
    MongoSearchCV(Dummy(), grid, cv=N_SPLITS, refit=False, name=name).fit(X, y)
    seen = attach(name)
    query = seconds_of(lambda: query_all(seen.search_id), chosen.rounds)
    print(f"one query of {chosen.units:,} units: {query:.2f} s")
    members: dict[str, tuple[Callable[[], Any], float]] = {
        f"to_frame({level!r})": (
            lambda level=level: seen.to_frame(level),
            table_seconds(seen.search_id, level, chosen.rounds),
        )
        for level in ("candidate", "split", "attempt")
    }
    with open_store(None) as store:
        reader = SearchReader(store, seen.search_id)
        rows, record = reader.rows, reader.first
    facts = (record.n_splits, record.facts)
    table = seconds_of(lambda: cv_results_of(rows, *facts), chosen.rounds)
    members["cv_results_"] = (lambda: seen.cv_results_, table)
    members["errors()"] = (seen.errors, 0.0)
    members["explain()"] = (seen.explain, 0.0)
    members["_repr_html_()"] = (seen._repr_html_, 0.0)
    for member, (call, table) in members.items():
        taken = seconds_of(call, chosen.rounds)
        queries = (taken - table) / query
        print(f"{member}: {taken:.2f} s, of them {table:.2f} s the table; {queries:.1f} queries")


if __name__ == "__main__":
    main()
