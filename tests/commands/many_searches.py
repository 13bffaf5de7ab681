"""One store with searches of all kinds: running, done, failed, raced, halved, left, abandoned."""

import os
import signal
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta

import functions
import numpy as np
import servers
import workers
from estimators import Sleeper
from sklearn.svm import SVC
from waiting import wait_for

from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV

X, Y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
NAMES = ("running", "abandoned", "left", "function", "halved", "raced", "ill", "done")
_CLIENT = """
import sys
from commands.many_searches import X, Y
from estimators import Sleeper
from optomatic import MongoSearchCV
name, uri, n_jobs = sys.argv[1:]
first = 4 if name == "running" else 0
grid = {"value": list(range(first, first + 4)), "seconds": [0.0, 600.0]}
MongoSearchCV(Sleeper(), grid, cv=2, db=uri, name=name, n_jobs=int(n_jobs)).fit(X, Y)
"""


class Ill(Sleeper):
    """Raises where `value` is 5, and kills its process where it is 13."""

    def fit(self, X, y):
        if self.value == 5:
            raise ValueError(f"no fit with {self.value}: [bold]half[/] of the rows\nare missing")
        if self.value == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)


def client(name, uri, n_jobs):
    """Start a process that waits for a search, some units of which take ten minutes."""
    return workers.start(
        *(sys.executable, "-c", _CLIENT, name, uri, n_jobs),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def fill(uri):
    """Make the searches; return the process of the one that runs."""
    units = servers.units(uri)
    searches = units.database["searches"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MongoSearchCV(SVC(), {"C": [0.1, 1.0, 10.0]}, cv=3, db=uri, name="done").fit(X, Y)
        ill = MongoSearchCV(Ill(), {"value": [1, 5, 13]}, cv=2, db=uri, name="ill", n_jobs=2)
        ill.set_params(refit=False).fit(X, Y)
        grid = {"value": list(range(6))}
        MongoSearchCV(Sleeper(), grid, cv=5, db=uri, name="raced", racing=True).fit(X, Y)
        grid = {"C": [0.1, 0.2, 1.0, 10.0]}
        MongoHalvingGridSearchCV(SVC(), grid, cv=2, db=uri, name="halved").fit(X, Y)
        MongoSearch(functions.parabola, {"x": range(4)}, db=uri, name="function").run()
        MongoSearch(functions.parabola, {"x": [10, 11]}, db=uri, name="left").submit()
    vanished = client("abandoned", uri, 0)
    wait_for(lambda: units.count_documents({"state": "queued"}) > 2, vanished)
    vanished.kill()
    vanished.wait()
    old = datetime.now(UTC) - timedelta(minutes=2)
    searches.update_one({"name": "abandoned"}, {"$set": {"seen_at": old}})
    runs = client("running", uri, 2)
    wait_for(lambda: units.count_documents({"state": "running", "started": True}) >= 2, runs)
    return runs


def end(process):
    """Kill a client with its workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
