"""Two standalone workers for calls of joblib, on a database of their own."""

import subprocess
import sys
import uuid

import joblib
import pytest
from pymongo import MongoClient
from waiting import wait_for
from workers import Executed, start

from optomatic.joblib_backend.client import close_clients


class Workers:
    """Starts standalone workers of one database, and looks into it."""

    def __init__(self, uri, folder):
        self.uri = uri
        self._folder = folder
        self._client = MongoClient(uri)
        self.database = self._client.get_default_database()
        self.processes = []

    def start(self, **environ):
        """Start a worker; return its process once it can be given work."""
        own = {"OPTOMATIC_LEASE": "2", "OPTOMATIC_CACHE_DIR": str(self._folder / "cache")}
        process = start(
            *(sys.executable, "-m", "optomatic.worker"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            **{"OPTOMATIC_DB": self.uri, **own, **environ},
        )
        self.processes.append(process)
        assert "ready" in process.stdout.readline()
        return process

    def calls(self, **query):
        """Return how many calls the database holds."""
        return self.database["units"].count_documents({"kind": "call", **query})

    def close(self):
        close_clients()
        for process in self.processes:
            process.kill()
            process.communicate()
        self._client.drop_database(self.database.name)
        self._client.close()


def _workers(one_node, tmp_path_factory):
    workers = Workers(one_node.uri(f"t{uuid.uuid4().hex[:12]}"), tmp_path_factory.mktemp("calls"))
    yield workers
    workers.close()


@pytest.fixture(scope="package")
def shared(one_node, tmp_path_factory):
    """Two workers that all tests use which leave them as they are."""
    for workers in _workers(one_node, tmp_path_factory):
        workers.start()
        workers.start()
        yield workers


@pytest.fixture
def own(one_node, tmp_path_factory, monkeypatch):
    """No worker yet; the test starts and kills its own."""
    monkeypatch.setenv("OPTOMATIC_LEASE", "2")
    yield from _workers(one_node, tmp_path_factory)


@pytest.fixture
def workers(shared):
    """The shared workers, with the backend active; nothing may be left at the end."""
    with joblib.parallel_config(backend="optomatic", db=shared.uri):
        yield shared
    wait_for(lambda: not shared.calls())


@pytest.fixture
def executed(shared):
    """Count the calls that workers finish."""
    counter = Executed(shared.uri)
    yield counter
    counter.close()
