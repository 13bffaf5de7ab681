"""Records that somebody changed: no search ends of them, none has another score, none is lost."""

import datetime
import threading
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bson import ObjectId
from search.comparing import assert_same_table
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from waiting import wait_for

from optomatic import MongoSearch, MongoSearchCV, attach
from optomatic.errors import NoProgress, RecordsInvalid

ROOT = Path(__file__).parents[2]
X, Y = load_iris(return_X_y=True)
GRID = {"n_neighbors": [1, 5, 25]}
TRUTH = GridSearchCV(KNeighborsClassifier(), GRID, cv=3).fit(X, Y)


@pytest.fixture
def start_worker(uri, start_worker):
    return partial(start_worker, uri, OPTOMATIC_LEASE="2")


def search(uri, **options):
    return MongoSearchCV(KNeighborsClassifier(), GRID, cv=3, db=uri, **options)


def fitted(uri, **options):
    """Return a search that was fitted, with the same table as GridSearchCV's."""
    found = search(uri, **options).fit(X, Y)
    assert_same_table(found, TRUTH)
    return found


DAMAGE = {
    "no n_test": {"$unset": {"result.n_test": 1}},
    "no result": {"$set": {"result": None}},
    "a score that is a text": {"$set": {"result.test": "0.9"}},
    "another score": {"$set": {"result.test": 0.5}},
    "an unknown metric": {"$set": {"result.test": [["unknown", 1.0]]}},
    "a state that does not exist": {"$set": {"state": "zzz"}},
    "dead": {"$set": {"state": "dead"}},
}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_scored_again_and_said_once(uri, database, damage, n_jobs):
    fitted(uri)
    database["units"].update_one({}, damage)
    with pytest.warns(RecordsInvalid, match="1 stored record could not be read") as warned:
        found = fitted(uri, n_jobs=n_jobs)
    # Clients that earlier tests left open are collected at any moment, with a ResourceWarning.
    told = [w.message for w in warned if not issubclass(w.category, ResourceWarning | NoProgress)]
    assert len(told) == 1
    assert (found.summary_.stored, found.summary_.scored, found.summary_.invalid) == (8, 1, 1)
    assert "1 invalid record" in str(found.summary_)
    assert attach(found.search_id_, db=uri).counts() == {"completed": 9, "invalid": 1}
    assert fitted(uri).summary_.stored == 9


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_no_row_of_a_frame_and_nothing_to_learn_from(uri, database, damage):
    first = fitted(uri)
    database["units"].update_many({"params.n_neighbors": 5}, damage)
    seen = attach(first.search_id_, db=uri)
    np.testing.assert_array_equal(
        seen.to_frame()["score"].dropna(), TRUTH.cv_results_["mean_test_score"][[0, 2]]
    )
    assert seen.counts() == {"completed": 6, "invalid": 3}
    learning = MongoSearchCV(KNeighborsClassifier(), Learner(), cv=3, warm_start=True, db=uri)
    with pytest.warns(RecordsInvalid):
        learning.fit(X, Y)
    means = dict(zip(GRID["n_neighbors"], TRUTH.cv_results_["mean_test_score"], strict=True))
    assert TOLD.pop() == {1: means[1], 25: means[25]}
    assert list(learning.cv_results_["mean_test_score"]) == [means[5]]


class Learner:
    """A generator that proposes what it was not told of."""

    def ask(self, n):
        """Propose it once."""
        left = [k for k in GRID["n_neighbors"] if k not in self.earlier]
        self.earlier.update(dict.fromkeys(left))
        return [{"n_neighbors": k} for k in left]

    def tell(self, evaluations):
        """Learn nothing."""

    def tell_earlier(self, evaluations):
        """Note what is known."""
        self.earlier = {e.params["n_neighbors"]: e.scores["score"] for e in evaluations}
        TOLD.append(dict(self.earlier))
        return len(evaluations)


TOLD = []


def _nothing(x):
    return x


BAD_UNITS = [
    {"$set": {"spec.payload": "0" * 300}},
    {"$set": {"spec.payload": 7}},
    {"$unset": {"key": 1}},
    {"$unset": {"kind": 1}},
    {"$unset": {"sequence": 1}},
    {"$set": {"priority": "high"}},
    {"$set": {"options": {"since": datetime.datetime(2026, 1, 1)}}},
    {"$set": {"params_text": '"opaque"'}},
    {"$set": {"losses": float("nan")}},
    {"$unset": {"history": 1}},
]


def test_bad_documents_end_no_worker(uri, database, start_worker):
    """One of each is queued among good ones, in good queues and in bad ones."""
    left = MongoSearch(_nothing, {"x": list(range(40))}, db=uri, name="left", n_jobs=0)
    left.submit()
    queued = database["units"]
    names = [document["_id"] for document in queued.find().sort("sequence")]
    for name, change in zip(names[::3], BAD_UNITS, strict=False):
        queued.update_one({"_id": name}, change)
    good = queued.find_one({"_id": names[1]})
    strange = ({"_id": ObjectId()}, {"_id": 7}, {"_id": {"a": 1}}, {"_id": "b"})
    queued.insert_many([{**good, **other} for other in strange])
    queue = database["queues"].find_one()
    for n, env in enumerate(("x", None, [["python"]], [1], 0.5, [["python", 3]])):
        database["queues"].insert_one({**queue, "_id": f"bad {n}", "env": env})
    database["queues"].insert_one({**queue, "_id": "other version", "v": 2, "env": "x"})
    worker = start_worker("--until-empty")
    _, errors = worker.communicate(timeout=120)
    assert worker.returncode == 0, errors
    assert "Traceback" not in errors
    counts = attach("left", db=uri).counts()
    assert counts == {"completed": 30, "invalid": 10}
    invalid = queued.count_documents({"state": "invalid"})
    assert invalid == 14
    assert errors.count("set aside as 'invalid'") == invalid + 6
    assert database["queues"].find_one({"_id": "other version"})["env"] == "x"
    # Whoever asks again gets all of them; what was set aside stays.
    again = MongoSearch(_nothing, {"x": list(range(40))}, db=uri)
    with pytest.warns(RecordsInvalid, match="10 stored records"):
        again.run()
    assert sorted(again.results_["score"]) == list(range(40))
    assert queued.count_documents({"state": "invalid"}) == invalid


@pytest.mark.parametrize("n_jobs", [0, 2, None])
def test_a_unit_that_breaks_while_it_waits_is_queued_anew(
    uri, database, start_worker, monkeypatch, n_jobs
):
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 1.0)
    units = database["units"]

    def break_all():
        wait_for(lambda: units.count_documents({}) == 9)
        units.update_many({"params.n_neighbors": 25}, {"$set": {"queue": 3.5, "priority": "high"}})
        if not n_jobs:
            start_worker()

    breaking = threading.Thread(target=break_all)
    breaking.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordsInvalid)
        warnings.filterwarnings("ignore", "Nobody has worked|This search leaves")
        fitted(uri, n_jobs=n_jobs)
    breaking.join()


def test_a_lost_queue_is_published_again(uri, database, start_worker, monkeypatch):
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 1.0)

    def lose():
        wait_for(lambda: database["units"].count_documents({}) == 9)
        database["queues"].update_many({}, {"$set": {"env": "x"}})
        start_worker()

    losing = threading.Thread(target=lose)
    losing.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted(uri, n_jobs=0)
    losing.join()


PARTS = {
    "a chunk of other bytes": ("chunks", {"$set": {"data": b"other"}}),
    "a chunk that is no bytes": ("chunks", {"$set": {"data": "text"}}),
    "a header of another kind": ("bundles", {"$set": {"kind": 7}}),
    "a header of many chunks": ("bundles", {"$set": {"chunks": 2**40}}),
    "a header without a kind": ("bundles", {"$unset": {"kind": 1}}),
    "marks that are none": ("bundles", {"$set": {"marks": "x", "chunks": 7}}),
}


@pytest.mark.parametrize(("collection", "damage"), PARTS.values(), ids=PARTS)
def test_damaged_parts_are_uploaded_again(uri, database, collection, damage):
    fitted(uri)
    database["units"].delete_many({})
    database[collection].update_many({}, damage)
    assert fitted(uri, n_jobs=2).summary_.scored == 9


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_unit_of_others_that_waits_for_a_search_is_not_scored_by_it(
    uri, database, monkeypatch, n_jobs
):
    monkeypatch.setattr("optomatic.worker.missing_workers.LONELY_SECONDS", 1.0)
    other = MongoSearchCV(KNeighborsClassifier(p=1), GRID, cv=3, db=uri).fit(X, Y)
    strange = database["units"].find_one()
    database["units"].delete_many({})
    queued = {"state": "queued", "result": None, "completed_by": None, "completed_at": None}
    fit = search(uri, n_jobs=n_jobs)

    def join():
        wait_for(lambda: database["searches"].count_documents({}) == 2)
        running = database["searches"].find_one({"_id": {"$ne": other.search_id_}})["_id"]
        document = {**strange, **queued, "wanted_by": [running], "queue": "nobody's"}
        database["units"].insert_one(document)

    joining = threading.Thread(target=join)
    joining.start()
    fit.fit(X, Y)
    joining.join()
    assert_same_table(fit, TRUTH)


def test_unreadable_units_are_removed_with_their_search(uri, database):
    first = fitted(uri)
    database["units"].update_one({}, {"$set": {"result": None}})
    with pytest.warns(RecordsInvalid):
        second = fitted(uri)
    assert database["units"].count_documents({"state": "invalid"}) == 1
    attach(first.search_id_, db=uri).remove()
    assert database["units"].count_documents({}) == 10
    attach(second.search_id_, db=uri).remove()
    assert database["units"].count_documents({}) == 0
