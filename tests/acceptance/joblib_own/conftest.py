"""Standalone workers for joblib's own tests, and a count of what they run."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
import sklearn.utils  # noqa: F401  # what it loads, the workers have loaded; some tests compare
from pymongo import MongoClient
from waiting import wait_for
from workers import Executed

from optomatic.joblib_backend.backend import OptomaticBackend
from optomatic.joblib_backend.client import close_clients

SITE = Path(__file__).parent / "site"
_KEY = "a key that this process and the workers share"
WORKERS, PROCESSES = 2, 2


def pytest_configure(config):
    """Know the marks of joblib's tests."""
    config.addinivalue_line("markers", "thread_unsafe: joblib's")
    config.addinivalue_line("markers", "no_cover: joblib's")


@pytest.fixture(scope="package")
def calls_database(one_node):
    name = "joblib_own"
    yield one_node.uri(name)
    with MongoClient(one_node.uri(name)) as client:
        client.drop_database(name)


@pytest.fixture(scope="package")
def pool(calls_database, tmp_path_factory):
    """Workers, and the environment in which they are joblib's default."""
    path = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {
        "PYTHONPATH": os.pathsep.join(path),
        "JOBLIB_OWN_KEY": _KEY,
        "OPTOMATIC_DB": calls_database,
    }
    folder = tmp_path_factory.mktemp("joblib_own")
    workers = [_worker(folder, n, environ) for n in range(WORKERS)]
    with MongoClient(calls_database) as client:
        found = client.get_default_database()["workers"]
        wait_for(lambda: found.count_documents({"kind": "standalone"}) == WORKERS)
    joblib.register_parallel_backend("optomatic", OptomaticBackend)
    joblib.register_parallel_backend("by default", ByDefault)
    yield environ
    del joblib.parallel.BACKENDS["by default"]
    close_clients()
    for worker in workers:
        worker.kill()
        worker.wait()


def _worker(folder, number, environ):
    log = (folder / f"worker {number}").open("wb")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", "optomatic.worker", "--processes", str(PROCESSES)],
            env={**os.environ, **environ, "OPTOMATIC_CACHE_DIR": str(folder / "cache")},
            stdout=log,
            stderr=log,
        )


class ByDefault(OptomaticBackend):
    """The backend where no test chooses one.

    A default uses one job unless it is told otherwise; one that was chosen uses all workers.
    """

    default_n_jobs = 1


@pytest.fixture(autouse=True)
def _default(pool, request, monkeypatch):
    """Make ours joblib's default, but for tests that say themselves that it is loky.

    For each test anew: a folder that is no package has its fixtures as long as the session lasts.
    """
    for variable, value in pool.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(multiprocessing.current_process(), "authkey", _KEY.encode())
    name = request.node.originalname
    if name not in getattr(request.module, "LOKY_IS_THE_DEFAULT", ()):
        monkeypatch.setattr(joblib.parallel, "DEFAULT_BACKEND", "by default")
    if name in getattr(request.module, "LOKY_MEANS_OURS", ()):
        monkeypatch.setitem(joblib.parallel.BACKENDS, "loky", OptomaticBackend)


@pytest.fixture(scope="package")
def executed(pool, calls_database):
    counter = Executed(calls_database)
    yield counter
    counter.close()


@pytest.fixture(autouse=True)
def _count(executed, request):
    yield
    executed.note(request.node.nodeid)
