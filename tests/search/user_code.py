"""Somebody's code in a folder, the processes that run it, and what they report.

A script of the user's ends with ``report(KINDS)``: each kind is fitted with MongoSearchCV as the
test asks for, and with GridSearchCV, and both are written down.  Workers get nothing of it but
what comes from the database.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import warnings
import zlib
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
#: Of each kind: two candidates on two splits.
UNITS = 4


# In the process of the user


def report(kinds):
    """Fit each of `kinds` and add what came of it to the report.

    A kind is an estimator, a grid, and maybe a dict: ``scoring``, ``X``, and ``fit``, the
    parameters of fit.
    """
    import optomatic.worker.missing_workers

    optomatic.worker.missing_workers.LONELY_SECONDS = 1.0
    path = Path(os.environ["REPORT"])
    reports = json.loads(path.read_text()) if path.exists() else []
    reports.append({name: _compared(*kind) for name, kind in kinds.items()})
    path.write_text(json.dumps(reports))


def _compared(estimator, grid, more=None):
    from sklearn.model_selection import GridSearchCV

    from optomatic import MongoSearchCV

    more = more or {}
    data = _data(os.environ["SEED"], more)
    grid = {name: values[: int(os.environ["FIRST"])] for name, values in grid.items()}
    options = {"cv": 2, "refit": False, "error_score": "raise", "scoring": more.get("scoring")}

    def run(kind, **own):
        search = kind(estimator, grid, **options, **own)
        return _run(lambda: search.fit(*data, **more.get("fit", {})))

    visits = [run(MongoSearchCV, db=db, n_jobs=n_jobs) for db, n_jobs in _visits()]
    return {"theirs": run(GridSearchCV), "visits": visits}


def _visits():
    return json.loads(os.environ["VISITS"])


def _data(seed, more):
    """Return data that no other seed has, so that tests share no scores."""
    import numpy as np

    random = np.random.default_rng(zlib.crc32(seed.encode()))
    X = random.integers(1, 1000, (8, 2)).astype(float)
    return more.get("X", X), np.arange(8) % 2


def _run(fit):
    said = []

    def show(message, category, *_):
        said.append(f"{category.__name__}: {message}")
        print(said[-1], file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        if not os.environ.get("PATIENT"):
            _do_not_wait()
        try:
            search = fit()
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "warnings": said}
    scores = [list(map(float, search.cv_results_[f"split{n}_test_score"])) for n in range(2)]
    summary = getattr(search, "summary_", None)
    counts = {} if summary is None else {"stored": summary.stored, "scored": summary.scored}
    return {"scores": scores, "warnings": said, **counts}


def _do_not_wait():
    """Have what leaves a search without workers end it."""
    from optomatic.errors import NoWorkers, WorkersRefuse

    warnings.simplefilter("error", NoWorkers)
    warnings.simplefilter("error", WorkersRefuse)


# In the process of the test


class User:
    """Somebody with code in a folder.

    Parameters
    ----------
    folder : Path
    seed : str
        Users of one seed have the same data.
    """

    def __init__(self, folder, seed):
        self.folder = folder
        self.code = folder / "code"
        self.seed = seed
        self.reports = 0
        self.log = folder / "log"

    def write(self, files):
        """Write files below the folder of the code; CODE in them is that folder."""
        for name, text in files.items():
            path = self.code / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).replace("CODE", str(self.code)))
        return self

    def start(self, visits, script="case.py", paths=(), **environ):
        """Start a script, as its user does; return the process and a function for its reports.

        Parameters
        ----------
        visits : list of (str, int or None)
            The database and ``n_jobs`` of each search.
        script : str
        paths : sequence of str
            What else is on the path, relative to the code.
        """
        self.reports += 1
        path = self.folder / f"report{self.reports}.json"
        log = self.log.open("w")
        process = subprocess.Popen(
            [sys.executable, script],
            cwd=self.code,
            env={
                **os.environ,
                # Two edits within a second look the same to what Python keeps of a module.
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": _joined(*(self.code / own for own in paths), TESTS, ROOT),
                "VISITS": json.dumps(visits),
                "REPORT": str(path),
                "SEED": self.seed,
                "FIRST": "2",
                **environ,
            },
            stdout=log,
            stderr=log,
        )

        def reports():
            try:
                process.wait(300)
            finally:
                end(process)
            assert path.exists(), self.log.read_text()
            return json.loads(path.read_text())

        return process, reports

    def run(self, visits, script="case.py", paths=(), **environ):
        """Run a script and return its reports."""
        process, reports = self.start(visits, script, paths, **environ)
        found = reports()
        assert process.returncode == 0, self.log.read_text()
        return found


def _joined(*paths):
    return os.pathsep.join(map(str, paths))


def end(process):
    """End a process that may have ended."""
    if process.poll() is None:
        process.kill()
    process.wait()


@contextlib.contextmanager
def standalone_worker(uri, folder, *paths):
    """Run a standalone worker in `folder`, which has installed distributions and `paths` only."""
    folder.mkdir(exist_ok=True, parents=True)
    before = sorted(folder.iterdir())
    log = folder.with_name(f"{folder.name}.log")
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "optomatic.worker", "--db", uri, "--max-idle", "300"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": _joined(*paths, ROOT),
                "OPTOMATIC_CACHE_DIR": str(folder.with_name(f"{folder.name}.cache")),
            },
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        assert "ready" in process.stdout.readline(), log.read_text()
        yield log
    finally:
        end(process)
        process.stdout.close()
    assert sorted(folder.iterdir()) == before
