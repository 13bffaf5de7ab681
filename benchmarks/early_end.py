"""How long a search goes on after the moment at which it was to end: seconds, and in what shape.

A ``fit`` over units that take half a minute each is to end: by its ``time_budget``, by a
``target_score`` that quick units reach, or by Ctrl-C.  What runs has 5 s of grace (none after
Ctrl-C) and is then ended, in local workers and in standalone ones.  Told is the time from that
moment to the end of fit, refit included, and how many candidates the table has.

Run it with ``python benchmarks/early_end.py [--rounds R]``.
"""

from __future__ import annotations

import argparse
import os
import signal
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

BUDGET, LONG, N_QUICK = 2.0, 30.0, 4
X, Y = np.arange(16.0).reshape(8, 2), np.arange(8) % 2


class Sleeper(ClassifierMixin, BaseEstimator):
    """Quick for the first values, then slow; its score is its parameter."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def fit(self, X, y):
        if self.value >= N_QUICK and len(X) < 8:  # a refit is quick
            time.sleep(LONG)
        return self

    def score(self, X, y):
        return float(self.value)


def a_search(uri: str, n_jobs: int, **options: object) -> MongoSearchCV:
    values = list(range(N_QUICK + 20))
    return MongoSearchCV(Sleeper(), {"value": values}, cv=2, n_jobs=n_jobs, db=uri, **options)


def by_budget(uri: str, n_jobs: int) -> tuple[float, int]:
    began = time.monotonic()
    search = a_search(uri, n_jobs, time_budget=BUDGET).fit(X, Y)
    return time.monotonic() - began - BUDGET, len(search.cv_results_["params"])


def by_target(uri: str, n_jobs: int) -> tuple[float, int]:
    """From the moment at which the last quick unit was stored."""
    search = a_search(uri, n_jobs, target_score=N_QUICK - 1).fit(X, Y)
    ended = time.time()
    units = MongoClient(uri, tz_aware=True).get_default_database()["units"]
    last = max(u["completed_at"] for u in units.find({"state": "completed"}))
    return ended - last.timestamp(), len(search.cv_results_["params"])


def by_ctrl_c(uri: str, n_jobs: int) -> tuple[float, int]:
    pressed: list[float] = []

    def press() -> None:
        time.sleep(BUDGET)
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    search = a_search(uri, n_jobs)
    try:
        search.fit(X, Y)
    except KeyboardInterrupt:
        return time.monotonic() - pressed[0], len(search.cv_results_["params"])
    raise RuntimeError("nobody pressed Ctrl-C")


def measured(server: str, end: object, standalone: bool, n: int) -> tuple[float, int]:
    uri = server.replace("/optomatic?", f"/early_{os.getpid()}_{n}?")
    workers = start_workers(uri) if standalone else None
    MongoSearchCV(Sleeper(), {"value": [0, 1]}, cv=2, n_jobs=0 if standalone else 2, db=uri).fit(
        X, Y
    )
    try:
        return end(uri, 0 if standalone else 2)  # type: ignore[operator]
    finally:
        if workers is not None:
            workers.kill()
            workers.wait()
        client = MongoClient(uri)
        client.drop_database(client.get_default_database().name)


def start_workers(uri: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "optomatic.worker", "--processes", "2"]
    environ = {**os.environ, "OPTOMATIC_DB": uri, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(command, env=environ, stdout=-3, stderr=-3, text=True)


def main() -> None:
    """Print a row for each way to end, and each kind of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    signal.signal(signal.SIGINT, signal.default_int_handler)
    server = serve()
    print("| ended by | workers | seconds on (median) | at most | candidates |")
    print("| --- | --- | ---: | ---: | ---: |")
    n = 0
    for end in (by_budget, by_target, by_ctrl_c):
        for standalone in (False, True):
            found = []
            for _ in range(rounds):
                n += 1
                found.append(measured(server, end, standalone, n))
            seconds = [s for s, _ in found]
            kind = "standalone" if standalone else "local"
            print(
                f"| {end.__name__[3:]} | {kind} | {statistics.median(seconds):.1f} "
                f"| {max(seconds):.1f} | {sorted({c for _, c in found})} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
