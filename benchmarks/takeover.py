"""How long a search takes to get over a worker that is killed: seconds, in leases.

Two standalone workers score a ``fit(n_jobs=0)``; one is killed with ``kill -9`` half way.  What
is told is the time from the kill to the end of fit, less the work that was left for the
one worker that lives.  It is measured twice: as it is on one machine, where a process that is
gone is noticed at once, and as it is with the worker on another machine (its record says
so), where only its lease tells.

Run it with ``python benchmarks/takeover.py [--lease S] [--rounds R]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from pymongo import MongoClient
from sklearn.base import BaseEstimator, ClassifierMixin

from optomatic import MongoSearchCV
from optomatic.embedded.server import serve

N_CANDIDATES, N_SPLITS, SECONDS = 20, 2, 0.1


class Sleeper(ClassifierMixin, BaseEstimator):
    """Waits in fit; its score is its parameter."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def fit(self, X, y):
        time.sleep(SECONDS)
        return self

    def score(self, X, y):
        return float(self.value)


def start_worker(uri: str) -> subprocess.Popen[str]:
    """Start a worker, and wait until it is ready."""
    command = [sys.executable, "-m", "optomatic.worker"]
    path = str(Path(__file__).parent)
    environ = {**os.environ, "OPTOMATIC_DB": uri, "PYTHONPATH": path}
    worker = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    worker.stdout.readline()
    return worker


def one_round(uri: str, elsewhere: bool) -> float:
    """Return the seconds from the kill to the end of fit, less the work that was left."""
    database = MongoClient(uri).get_default_database("optomatic")
    database.client.drop_database(database.name)
    workers = [start_worker(uri), start_worker(uri)]
    left: list[float] = []

    def kill_half_way() -> None:
        done = {"state": "completed"}
        while database["units"].count_documents(done) < N_CANDIDATES * N_SPLITS / 2:
            time.sleep(0.01)
        if elsewhere:
            database["workers"].update_many({}, {"$set": {"process.boot": "of another machine"}})
        workers[0].kill()
        unfinished = N_CANDIDATES * N_SPLITS - database["units"].count_documents(done)
        left.extend([time.perf_counter(), unfinished * SECONDS])

    killer = threading.Thread(target=kill_half_way)
    killer.start()
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    grid = {"value": list(range(N_CANDIDATES))}
    search = MongoSearchCV(Sleeper(), grid, cv=N_SPLITS, n_jobs=0, db=uri).fit(X, y)
    took = time.perf_counter() - left[0] - left[1]
    killer.join()
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], np.arange(N_CANDIDATES))
    for worker in workers:
        worker.kill()
        worker.wait()
    return took


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lease", type=float, default=4.0, help="seconds (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    chosen = parser.parse_args()
    os.environ["OPTOMATIC_LEASE"] = str(chosen.lease)
    uri = serve().replace("/optomatic?", "/takeover?")
    for where, elsewhere in (("on this machine", False), ("on another machine", True)):
        times = [one_round(uri, elsewhere) for _ in range(chosen.rounds)]
        print(
            f"a worker killed {where}: the end comes {statistics.median(times):.1f} s "
            f"({statistics.median(times) / chosen.lease:.2f} leases, at most "
            f"{max(times) / chosen.lease:.2f}) after the kill and the work that was left"
        )


if __name__ == "__main__":
    # What workers load must have a module to come from.
    from takeover import main as run

    run()
