"""What a unit costs each process: CPU of the database, of this process and of its children.

The estimator does nothing, so that all is overhead: scikit-learn's, joblib's and ours.  All
variants run in turn on the embedded server, and each run has data of its own.  A small search
before each run has started processes and imported everything.  The table shows medians.

Run it with ``python benchmarks/overhead.py [--units N] [--rounds R] [--jobs N]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import psutil
from pymongo import MongoClient
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV

from optomatic import MongoSearchCV
from optomatic.embedded.server import serve

CV = 5
#: CPU of this process, of its children, and of the database.
Costs = tuple[float, float, float]


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


def variants(jobs: int) -> dict[str, Callable[[dict], object]]:
    """Return the searches that are compared; each is made anew for each run."""
    one = {"cv": CV, "refit": False}
    some = {**one, "n_jobs": jobs}
    return {
        "GridSearchCV": lambda g: GridSearchCV(Idle(), g, **one),
        f"GridSearchCV, loky, n_jobs={jobs}": lambda g: GridSearchCV(Idle(), g, **some),
        "MongoSearchCV": lambda g: MongoSearchCV(Idle(), g, **one),
        f"MongoSearchCV, n_jobs={jobs}": lambda g: MongoSearchCV(Idle(), g, **some),
    }


def spent(server: psutil.Process) -> Costs:
    """Return the seconds of CPU that processes have used so far."""
    here = psutil.Process()
    others = [one for one in here.children(recursive=True) if one.pid != server.pid]
    return sum(here.cpu_times()[:2]), sum(map(cpu, others)), cpu(server)


def cpu(process: psutil.Process) -> float:
    """Return the seconds of CPU of a process, none if it is gone."""
    try:
        return sum(process.cpu_times()[:2])
    except psutil.NoSuchProcess:
        return 0.0


def costs(made: Callable[[dict], object], units: int, server: psutil.Process) -> Costs:
    """Return the microseconds of CPU that a unit of one search takes."""
    rng = np.random.default_rng()
    made({"value": [1, 2]}).fit(rng.random((50, 2)), np.arange(50) % 2)
    X, y = rng.random((50, 2)), np.arange(50) % 2
    before = spent(server)
    made({"value": list(range(units // CV))}).fit(X, y)
    after = spent(server)
    return tuple(1e6 * (b - a) / units for a, b in zip(before, after, strict=True))


def database_server() -> psutil.Process:
    """Return the process of the embedded server."""
    with MongoClient(serve()) as client:
        return psutil.Process(client.admin.command("serverStatus")["pid"])


def timed(search, X, y) -> float:
    """Return the seconds of one fit."""
    began = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=2000, help="units a fit (default 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="fits a variant (default 5)")
    parser.add_argument("--jobs", type=int, default=2, help="workers (default 2)")
    chosen = parser.parse_args()
    server = database_server()
    found: dict[str, list[Costs]] = {}
    for _ in range(chosen.rounds):
        for name, made in variants(chosen.jobs).items():
            found.setdefault(name, []).append(costs(made, chosen.units, server))
    print(f"microseconds of CPU a unit, {chosen.units} units, medians of {chosen.rounds}:\n")
    print("| | this process | children | database |\n| --- | ---: | ---: | ---: |")
    for name, rounds in found.items():
        medians = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {' | '.join(f'{median:,.0f}' for median in medians)} |")


if __name__ == "__main__":
    main()
