"""Under another active backend of joblib a fit claims its units itself and scores them there."""

import _thread
import importlib
import os
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
from estimators import Crasher, Sleeper, WhoIsIt
from servers import units
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from waiting import wait_for

from optomatic import MongoSearchCV
from optomatic.errors import UnitsDied

X, Y = make_classification(n_samples=120, random_state=0)
GRID = {"C": [0.01, 0.1, 1, 10], "solver": ["lbfgs", "liblinear"]}
MODEL = LogisticRegression(random_state=0)


@pytest.fixture(scope="module")
def dask_client():
    distributed = pytest.importorskip("dask.distributed", reason="dask.distributed is not here")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray", reason="ray is too large for every run of the tests")
    importlib.import_module("ray.util.joblib").register_ray()
    tests = {"PYTHONPATH": str(Path(__file__).parents[1])}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": tests})
    yield
    ray.shutdown()


@pytest.fixture(params=["loky", "threading", "multiprocessing", "dask", "ray"])
def backend(request):
    if request.param in ("dask", "ray"):
        request.getfixturevalue({"dask": "dask_client", "ray": "ray_cluster"}[request.param])
    with joblib.parallel_config(backend=request.param, n_jobs=2):
        yield request.param


def test_results_and_reuse_are_as_ever(uri, backend):
    plain = GridSearchCV(MODEL, GRID, cv=3, n_jobs=1).fit(X, Y)
    search = MongoSearchCV(MODEL, GRID, cv=3, db=uri).fit(X, Y)
    for name in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], plain.cv_results_[name])
    assert search.best_params_ == plain.best_params_
    assert (search.summary_.scored, search.summary_.stored) == (24, 0)
    again = MongoSearchCV(MODEL, GRID, cv=3, db=uri).fit(X, Y)
    assert (again.summary_.scored, again.summary_.stored) == (0, 24)
    documents = list(units(uri).find())
    assert {(u["state"], u["runs"], u["losses"]) for u in documents} == {("completed", 1, 0)}


def test_units_are_scored_by_the_engine(uri, backend):
    search = MongoSearchCV(WhoIsIt(seconds=0.05), {"value": list(range(10))}, cv=2, db=uri)
    search.fit(X, Y)
    pids = {int(pid) for pid in np.unique(search.cv_results_["split0_test_score"])}
    assert (os.getpid() in pids) == (backend == "threading")


def test_failures_of_the_estimator_are_results(uri, backend):
    grid = {"C": [1.0, -1.0]}
    with pytest.warns(FitFailedWarning, match="2 fits failed"):
        search = MongoSearchCV(MODEL, grid, cv=2, db=uri, error_score=-1.0).fit(X, Y)
    assert search.cv_results_["mean_test_score"][1] == -1.0


# multiprocessing forks all the time, and Python drops an interrupt that comes in its own hooks.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_leaves_a_clean_queue_and_what_is_scored(uri, backend):
    grid = {"value": list(range(40))}
    raised = threading.Event()

    def interrupt():
        wait_for(lambda: units(uri).count_documents({"state": "completed"}) >= 3)
        _thread.interrupt_main()
        while not raised.wait(5.0):  # as who pressed Ctrl-C in vain would
            _thread.interrupt_main()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            MongoSearchCV(Sleeper(seconds=0.5), grid, cv=2, db=uri).fit(X, Y)
    finally:
        raised.set()
    interrupter.join()
    wait_for(lambda: not units(uri).count_documents({"state": {"$in": ["queued", "running"]}}))
    assert not units(uri).count_documents({"losses": {"$gt": 0}})
    completed = units(uri).count_documents({"state": "completed"})
    grid = {"value": list(range(5))}
    again = MongoSearchCV(Sleeper(seconds=0.5), grid, cv=2, db=uri).fit(X, Y)
    assert again.summary_.stored >= 3
    assert completed >= 3
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], np.arange(5.0))


def test_a_unit_that_ends_the_engines_workers_is_given_up_and_the_others_are_not(uri):
    grid, one_split = {"value": [1, 13, 2]}, ShuffleSplit(1, random_state=0)
    search = MongoSearchCV(Crasher(), grid, cv=one_split, db=uri, error_score=-1.0, refit=False)
    with joblib.parallel_config(backend="loky", n_jobs=2), pytest.warns(UnitsDied):
        search.fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, -1, 2])
    poison = list(units(uri).find({"state": "dead"}))
    assert [(u["runs"], u["losses"]) for u in poison] == [(3, 3)]


def test_a_search_that_ends_early_does_so_on_an_engine_too(uri):
    search = MongoSearchCV(
        Sleeper(seconds=0.02), {"value": list(range(200))}, cv=2, db=uri, target_score=3.0
    )
    with joblib.parallel_config(backend="threading", n_jobs=2):
        search.fit(X, Y)
    assert 3 <= len(search.cv_results_["params"]) < 200
    assert "target_score of 3 is reached" in str(search.summary_)


def test_only_a_backend_that_was_chosen_takes_the_place_of_local_workers(uri):
    from optomatic.worker.joblib_pool import active_backend

    assert active_backend() is None
    with joblib.parallel_config(n_jobs=2):
        assert active_backend() is None
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert type(active_backend()).__name__ == "LokyBackend"
    with joblib.parallel_config(n_jobs=2):
        MongoSearchCV(MODEL, {"C": [1, 2]}, cv=2, db=uri).fit(X, Y)
    workers = set(units(uri).distinct("completed_by"))
    assert len(workers) == 1


def test_standalone_workers_help(uri):
    """What is queued may be scored by anybody; n_jobs=0 leaves it to them under any backend."""
    from optomatic.driver.executors import Standalone, executor_for

    with joblib.parallel_config(backend="threading", n_jobs=2):
        executor = executor_for(0, bundle=None, place=None, error_score=0.0, verbose=0)
    assert isinstance(executor, Standalone)
