"""Memory of a worker whose children share large data, in proportional set size (PSS).

A standalone worker with 4 children and X of 1 GB of float64.

*One pass*: every child loads X and sums it up, then all hold still and are measured: the
supervisor, the process that children are forked from, and the children.

*5-fold training*: every fit copies its four fifths of X, so there the peak is measured,
beside GridSearchCV in loky's workers.

Run it with ``python benchmarks/memory.py [--gigabytes 1] [--children 4] [--skip-training]``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import servers
from waiting import wait_for

from optomatic import MongoSearchCV


class OnePass(BaseEstimator):
    """Sums up the whole X that its process has loaded, and waits until it is told to go on."""

    def __init__(self, folder: str = "", value: int = 0) -> None:
        self.folder = folder
        self.value = value

    def fit(self, X, y=None):
        frame = sys._getframe()
        while frame.f_code.co_name != "_fit_and_score":  # scikit-learn's, which has all of X
            frame = frame.f_back
        frame.f_locals["X"].sum()
        Path(self.folder, f"{os.getpid()}-{self.value}").touch()
        while not Path(self.folder, "go").exists():
            time.sleep(0.05)
        return self

    def score(self, X, y=None):
        return 0.0


class Copy(BaseEstimator):
    """Has its copy of the training part, and passes over it for a while."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def fit(self, X, y=None):
        for _ in range(3):
            X.sum()
        return self

    def score(self, X, y=None):
        return float(X[0, 0])


def pss(processes: list[psutil.Process]) -> float:
    """Return the proportional set size of `processes`, in bytes."""
    total = 0.0
    for process in processes:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it is over
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


class Peak:
    """The largest PSS of some processes while it is entered."""

    def __init__(self, processes) -> None:
        self._processes = processes
        self._over = threading.Event()
        self.bytes = 0.0

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.bytes = max(self.bytes, pss(self._processes()))

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def one_pass(uri: str, worker: subprocess.Popen, X, children: int) -> float:
    """Return the PSS of `worker` with all that it started, after a pass of each child over X."""
    rows = [(np.arange(2), np.arange(2, 4))]
    with tempfile.TemporaryDirectory() as folder:
        grid = {"value": list(range(children))}
        search = MongoSearchCV(
            OnePass(folder), grid, cv=rows, n_jobs=0, db=uri, refit=False, verbose=1
        )
        client = threading.Thread(target=search.fit, args=(X,))
        client.start()
        try:
            wait_for(lambda: len(os.listdir(folder)) == children, worker, 500.0)
            return pss(tree(worker.pid))
        finally:
            Path(folder, "go").touch()
            client.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--children", type=int, default=4)
    parser.add_argument("--skip-training", action="store_true")
    chosen = parser.parse_args()
    n_rows = int(chosen.gigabytes * 1e9 / 8 / 100)
    X = np.random.default_rng(0).random((n_rows, 100))
    size = X.nbytes
    server = servers.replica_set(1)
    with tempfile.TemporaryDirectory() as cache:
        uri = server.uri("memory")
        path = os.pathsep.join(str(folder) for folder in Path(__file__).parents[:2])
        command = [sys.executable, "-m", "optomatic.worker", "--db", uri, "--cache-dir", cache]
        worker = subprocess.Popen(
            [*command, "--processes", str(chosen.children)],
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            found = one_pass(uri, worker, X, chosen.children)
            print(f"one pass: {found / size:.2f} times the data in {chosen.children} children")
            if chosen.skip_training:
                return
            grid = {"value": list(range(chosen.children))}
            with Peak(lambda: tree(worker.pid)) as peak:
                MongoSearchCV(Copy(), grid, cv=5, n_jobs=0, db=uri, refit=False).fit(X)
            print(f"5-fold training: at most {peak.bytes / size:.2f} times the data")
        finally:
            worker.terminate()
            worker.wait()
            server.remove()
    with Peak(lambda: tree(os.getpid())[1:]) as peak:
        GridSearchCV(Copy(), grid, cv=5, n_jobs=chosen.children, refit=False).fit(X)
    get_reusable_executor().shutdown()
    print(f"5-fold training with loky: at most {peak.bytes / size:.2f} times the data")


if __name__ == "__main__":
    main()
