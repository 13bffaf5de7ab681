"""What ``explain`` says: why scores were not reused, and why a search does not move."""

import uuid

import functions
import numpy as np
import pytest
from pymongo import MongoClient
from sklearn.datasets import load_iris
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from optomatic import MongoSearch, MongoSearchCV, attach
from optomatic.keys import environment
from optomatic.keys.environment import required_versions
from optomatic.planning import planner
from optomatic.records import WorkerRecord
from optomatic.store.connection import open_store
from optomatic.store.workers import this_process

X, Y = load_iris(return_X_y=True)
WEIGHTS = np.ones(len(Y))


class Mine(SVC):
    """Another class with the same params."""


def times(factor):
    """Return a function; its code is the same for all factors, and what it refers to is not."""

    def scaled(values):
        return values * factor

    return scaled


def other(values):
    return np.asarray(values) + 1


other.__qualname__ = times(1).__qualname__
other.__name__ = "scaled"


def fit(uri, estimator=None, X=X, y=Y, grid=None, fit_params=None, **options):
    options = {"cv": KFold(3, shuffle=True, random_state=0), "name": "churn", **options}
    search = MongoSearchCV(estimator or SVC(), grid or {"C": [1, 2]}, db=uri, **options)
    return search.fit(X, y, **(fit_params or {}))


def of_reuse(search):
    (found,) = [one.text for one in search.explain().findings if one.kind == "reuse"]
    return found


def assert_named(search, earlier, first):
    text = of_reuse(search)
    assert f"Other than in {earlier.name!r} ({earlier.search_id_}, " in text
    assert f"UTC): {first}." in text, text


CHANGES = {
    "class": (
        {"estimator": Mine()},
        f"estimator class sklearn.svm._classes.SVC -> {__name__}.Mine",
    ),
    "X": ({"X": X + 1}, "X"),
    "y": ({"y": Y[::-1]}, "y"),
    "scorer": ({"scoring": "f1_macro"}, "scorer"),
    "splits": ({"cv": KFold(3, shuffle=True, random_state=1)}, "splits"),
    "fit_params": ({"fit_params": {"sample_weight": WEIGHTS}}, "fit_params"),
    "a base param": ({"estimator": SVC(gamma=0.5)}, "gamma"),
}


@pytest.mark.parametrize(("change", "first"), CHANGES.values(), ids=CHANGES)
def test_the_first_ingredient_that_differs_is_named(uri, change, first):
    """Of the search that differs least, although a later one differs in a base param, too."""
    nearest = fit(uri)
    fit(uri, SVC(tol=1e-4))
    assert_named(fit(uri, **change), nearest, first)


def test_another_version_is_named(uri, monkeypatch):
    nearest = fit(uri)
    fit(uri, SVC(tol=1e-4))
    plain = environment.versions
    monkeypatch.setattr(planner, "versions", lambda names: {**plain(names), "numpy": "1.0"})
    (version,) = {plain(["numpy"])["numpy"]}
    text = of_reuse(fit(uri))
    assert f"({nearest.search_id_}, " in text
    assert f"numpy {version} -> 1.0" in text


@pytest.mark.parametrize("function", [times(3), other], ids=["a value", "the code"])
def test_the_code_of_a_function_is_named_by_its_param(uri, function):
    def model(function, **params):
        return make_pipeline(FunctionTransformer(function), SVC(**params))

    grid = {"svc__C": [1, 2]}
    nearest = fit(uri, model(times(2)), grid=grid)
    fit(uri, model(times(2), tol=1e-4), grid=grid)
    assert_named(fit(uri, model(function), grid=grid), nearest, "functiontransformer__func")


def test_the_code_of_a_scoring_function_and_its_data_are_named(uri):
    def scored(by):
        def train(x, data):
            return by * x + len(data)

        return train

    def run(by=1, data=(1, 2)):
        space = {"x": [1, 2]}
        return MongoSearch(scored(by), space, data={"data": data}, db=uri, name="train").run()

    nearest = run()
    other_data = run(data=(1, 2, 3))
    assert_named(other_data, nearest, "data 'data'")
    assert_named(run(by=2), nearest, "function (its code)")
    assert of_reuse(run()) == "All 2 scores were there when it began."


def test_train_scores_that_are_missing_are_named(uri):
    nearest = fit(uri)
    fit(uri, SVC(tol=1e-4))
    text = of_reuse(fit(uri, return_train_score=True))
    assert f"same units as 'churn' ({nearest.search_id_}, " in text
    assert text.endswith("6 were not reused, as train scores were not asked for there.")


def test_all_that_is_reused_is_said(uri):
    fit(uri)
    fit(uri, SVC(tol=1e-4))
    assert of_reuse(fit(uri)) == "All 6 scores were there when it began."
    assert fit(uri, grid={"C": [2]}).explain().findings[-1].text == (
        "All 3 scores were there when it began."
    )


def test_params_that_either_search_varies_do_not_count(uri):
    wide = fit(uri, SVC(tol=1e-4), grid={"C": [1], "gamma": [0.1], "tol": [1e-3]})
    fit(uri, SVC(gamma=0.2, tol=1e-4), scoring="f1_macro")
    text = of_reuse(fit(uri, SVC(C=7, gamma=0.5, tol=1e-3), grid={"C": [5, 1]}))
    assert f"differs from 'churn' ({wide.search_id_}, " in text
    assert "in its candidates only" in text


def test_a_search_without_an_earlier_one_says_so(uri):
    fit(uri, name="other")
    search = MongoSearch(functions.parabola, {"x": [1]}, db=uri, name="new").run()
    assert of_reuse(search).endswith("No earlier search in the database has its name or kind.")


# Why it does not move


@pytest.fixture
def left(uri):
    """Return a search of two units that is left to workers, and needs a tag, and its store."""
    name = f"left {uuid.uuid4().hex[:6]}"
    space = {"x": [1, 2]}
    MongoSearch(functions.parabola, space, db=uri, name=name, requires={"gpu"}).submit()
    with open_store(uri) as store:
        yield attach(name, db=uri), store


def told(search, kind):
    return [one.text for one in search.explain().findings if one.kind == kind]


def register(store, *, tags=(), **env):
    versions = {**required_versions({}), **env}
    store.workers.register(WorkerRecord("w1", "standalone", this_process(), 1, versions, tags))


def queue_of(search, store):
    return store.jobs.queues_of(search.search_id)[0]


def test_that_no_worker_is_there_is_said_with_the_command(left, uri):
    search, _ = left
    (text,) = told(search, "workers")
    assert text.startswith("No standalone worker has been seen. Start one: ")
    assert text.endswith("--tag gpu")
    assert told(search, "state") == ["It is left: 0 of 2 units ended, 2 queued."]


def test_a_tag_that_workers_lack_is_named(left):
    search, store = left
    register(store)
    lack, start = told(search, "workers")
    assert "needed is --tag gpu" in lack
    assert start.endswith("--tag gpu")


def test_a_version_that_workers_lack_is_named(left):
    search, store = left
    register(store, tags=("gpu",), python="3.9")
    lack, _ = told(search, "workers")
    here = required_versions({})["python"]
    assert f"needed is python {here} (it has 3.9)" in lack


def test_a_worker_that_can_take_them_is_counted(left):
    search, store = left
    register(store, tags=("gpu",))
    (text,) = told(search, "workers")
    assert text.startswith("1 standalone worker can take the queued units")


def test_a_worker_that_refuses_is_named_with_its_reason(left):
    search, store = left
    register(store, tags=("gpu",))
    store.workers.refuses("w1", queue_of(search, store), "the files of model are other ones here")
    (text,) = told(search, "refusal")
    assert text.startswith("worker w1 on ")
    assert "the files of model are other ones here" in text
    assert any("None of the workers can score it" in one for one in told(search, "workers"))


def test_units_that_end_their_workers_are_counted(left):
    search, store = left
    lease = store.claims.claim("w1", 1, search=search.search_id)
    store.claims.start(lease.token, [lease.jobs[0].id], 600)
    store.claims.crash(lease.token, lease.jobs[0].id, "killed by SIGSEGV", "host")
    (text,) = told(search, "losses")
    assert text.startswith("1 unit ended the scoring process, up to 1 time.")


def test_units_that_another_version_has_queued_are_counted(left, uri):
    search, _ = left
    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]
        units.update_one({}, {"$set": {"v": 99}})
        assert "queued 1 unit in a form" in told(search, "other version")[0]
        units.update_many({}, {"$set": {"v": 99}})
        assert "queued 2 units in a form" in told(search, "other version")[0]
        assert told(search, "workers") == []


def test_a_queue_that_was_lost_is_said(left, uri):
    search, _ = left
    with MongoClient(uri) as client:
        client.get_default_database()["queues"].delete_many({})
    assert any("has lost the requirements" in text for text in told(search, "workers"))


def test_the_worker_of_a_running_unit_is_named(left):
    search, store = left
    lease = store.claims.claim("w1", 1, search=search.search_id)
    store.claims.start(lease.token, [lease.jobs[0].id], 600)
    (text,) = told(search, "running")
    assert text.startswith("It moves: 1 unit in work, 1 by worker w1 on ")
