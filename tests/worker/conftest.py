"""A queue on a real server, filled as a search fills it."""

import secrets

import numpy as np
import pytest
from estimators import own_score
from pymongo import MongoClient

from optomatic.keys.environment import required_versions
from optomatic.planning.planner import Planner
from optomatic.planning.workload import FitWorkload
from optomatic.records import SearchRecord, Timing, WorkerRecord
from optomatic.store.connection import open_store
from optomatic.store.workers import this_process
from optomatic.worker.disk_cache import Cache
from optomatic.worker.dispatch import WorkerOptions
from optomatic.worker.forkserver import Setup
from optomatic.worker.pool import Pool, current_path
from optomatic.worker.worker import Worker

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
SPLITS = [(np.arange(10), np.arange(10, 20)), (np.arange(10, 20), np.arange(10))]
OPTIONS = {"return_train_score": False, "config": {}}
#: Leases of a second, so that what is lost is found within a test.
TIMING = Timing(lease=1.0, unstarted=0.3)


class Queue:
    """A store with a search in it, and a look into the database behind it."""

    def __init__(self, uri):
        self.uri = uri
        self.store = open_store(uri, timing=TIMING)
        self.client = MongoClient(uri)
        self.units = self.client.get_default_database("optomatic")["units"]

    def close(self):
        self.store.close()
        self.client.close()

    def submit(self, estimator, candidates, *, search=None, name=None, requires=()):
        """Submit the units of `candidates` on two splits; return the id of their search."""
        shared = FitWorkload(
            estimator=estimator,
            X=X,
            y=Y,
            splits=SPLITS,
            scorer=own_score,
            fit_params={},
            score_params={},
            options=OPTIONS,
        )
        plan = Planner(shared, requires=requires).plan(candidates)
        search = search or secrets.token_hex(8)
        record = SearchRecord(
            *(search, name or search, "test", "test", "test", len(candidates), len(SPLITS)),
            required_versions({}),
            this_process(),
        )
        self.store.searches.open(record, plan.ids)
        for part in plan.parts.values():
            self.store.parts.put(part)
        self.store.workers.publish(plan.units[0].work)
        self.store.jobs.submit(plan.units, search)
        return search

    def over(self, search):
        return lambda: not self.store.jobs.waits(search)

    def count(self, **condition):
        return self.units.count_documents(condition)

    def states(self):
        """Return how many units are in which state."""
        found = {}
        for unit in self.units.find({}, {"state": 1}):
            found[unit["state"]] = found.get(unit["state"], 0) + 1
        return found

    def field(self, name, **condition):
        """Return the values of a field, sorted."""
        return sorted(unit[name] for unit in self.units.find(condition))


@pytest.fixture
def queue(uri):
    queue = Queue(uri)
    yield queue
    queue.close()


@pytest.fixture
def pool():
    """Two warm children."""
    pool = Pool(2, Setup(current_path()))
    yield pool
    pool.close()


@pytest.fixture
def make_worker(queue, pool, tmp_path):
    """Make workers, of `pool` if no other is given."""

    def make(pool=pool, store=queue.store, **options):
        record = WorkerRecord(
            secrets.token_hex(8), "standalone", this_process(), pool.size, required_versions({})
        )
        cache = Cache(tmp_path / "cache")
        return Worker(store, pool, cache, record, WorkerOptions(**options))

    return make


@pytest.fixture
def worker(queue, start_worker, tmp_path):
    """Start standalone workers whose loss is noticed soon; kill them at the end."""
    settings = {"OPTOMATIC_LEASE": "1", "OPTOMATIC_CACHE_DIR": str(tmp_path / "cache")}

    def start(*arguments, db=None, script=None, **environ):
        command = ("-m", "optomatic.worker") if script is None else ("-c", script)
        environ = {**settings, "OPTOMATIC_DB": db or queue.uri, **environ}
        return start_worker(None, *arguments, command=command, **environ)

    return start
