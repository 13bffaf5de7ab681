"""A search is made wider from elsewhere, and watched."""

import itertools
import os
import subprocess
import sys
import threading

import functions
import numpy as np
import pytest
import servers
from estimators import Sleeper
from sklearn.model_selection import ParameterGrid
from sklearn.svm import SVC
from waiting import wait_for
from workers import TESTS, work_off

from optomatic import MongoSearch, MongoSearchCV, attach
from optomatic.driver.request import new_record
from optomatic.errors import SearchCancelled
from optomatic.planning.params import parts_of
from optomatic.planning.planner import Planner, plan_more
from optomatic.planning.workload import FunctionWorkload
from optomatic.records import Candidate
from optomatic.store.connection import open_store
from optomatic.store.documents import checksum_of

DATA = {"X": np.arange(6.0), "y": np.arange(3)}

#: Extends a search where the module of its function cannot be imported.
ELSEWHERE = """
import sys
try:
    import functions
except ImportError:
    from optomatic import attach
    print(attach("weights", db=sys.argv[1]).extend({"weight": [1, 2, 3.5, 4]}))
"""


def search_of(uri, weights, **options):
    return MongoSearch(functions.of_data, {"weight": weights}, data=DATA, db=uri, **options)


def test_added_units_are_those_of_the_wider_search(uri, tmp_path):
    search_of(uri, [1, 2], name="weights").run()
    command = [sys.executable, "-c", ELSEWHERE, uri]
    environ = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    told = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert told.stdout.split() == ["2"], told.stderr
    seen = attach("weights", db=uri)
    assert seen.counts() == {"completed": 2, "queued": 2}
    assert seen.record()["state"] == "running"
    assert seen.record()["n_units"] == 4
    assert not seen.wait(timeout=0)
    work_off(uri)
    assert seen.wait(timeout=60)
    assert seen.record()["state"] == "completed"
    assert seen.to_frame()["param_weight"].tolist() == [1, 2, 3.5, 4]
    assert seen.to_frame()["score"].tolist() == [18.0, 33.0, 55.5, 63.0]
    assert search_of(uri, [1, 2, 3.5, 4]).run().summary_.stored == 4


def test_scored_units_are_not_queued(uri):
    search_of(uri, [1, 2, 3], name="weights").run()
    search_of(uri, [3, 4, 5]).run()
    seen = attach("weights", db=uri)
    assert seen.extend(ParameterGrid({"weight": [4, 5]})) == 0
    assert seen.record()["state"] == "completed"
    assert seen.counts() == {"completed": 5}
    assert seen.extend([{"weight": [4]}, {"weight": [6]}]) == 1
    assert seen.extend({"weight": [6, 6]}) == 1  # it waits already
    assert seen.counts() == {"completed": 5, "queued": 1}


@pytest.mark.parametrize("limit", [None, 7.0])
def test_extending_makes_the_units_that_a_fit_makes(limit):
    values = [1, 1.0, np.float64(1), True, None, "a", (1, 2), [1, "b"], {"a": {1}}, SVC(C=2)]
    candidates = [{"kind": "k", "x": value} for value in values]
    how = {"limits": {"seconds": limit}} if limit else {}
    planner = Planner(FunctionWorkload(functions.metrics_of_kind, {}, how), requires=("gpu",))
    asked = planner.plan(candidates[:1]).asked
    theirs = planner.plan(candidates)
    ours = plan_more(asked, candidates)
    assert ours.ids == theirs.ids
    texts = [
        [u.params_text for u in plan.units if "opaque" not in u.params_text]
        for plan in (ours, theirs)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == len(values) - 1
    assert ours.units[0].work == theirs.units[0].work
    assert set(asked.work.spec.values()) <= set(theirs.parts)
    (opaque,) = (u.params_text for u in ours.units if "opaque" in u.params_text)
    assert parts_of(opaque) <= set(ours.parts)  # nobody needs what was sent for the first ones


def test_a_client_that_runs_scores_and_awaits_only_its_own(uri):
    """In this process it has no params of what others added; with workers it would wait for it."""
    done = []
    space = {"x": range(20)}
    search = MongoSearch(functions.slow, space, db=uri, name="long")
    client = threading.Thread(target=lambda: done.append(search.run()))
    client.start()
    wait_for(lambda: servers.units(uri).count_documents({"state": "completed"}) >= 2)
    seen = attach("long", db=uri)
    assert seen.extend({"x": [5, 19, 100, 101]}) >= 2
    client.join(120)
    assert len(done) == 1
    assert done[0].results_["param_x"].tolist() == list(range(20))
    assert seen.counts() == {"completed": 20, "queued": 2}
    assert not seen.wait(timeout=0)
    seen.cancel()
    assert seen.counts() == {"completed": 20, "cancelled": 2}
    assert seen.record()["state"] == "cancelled"
    assert seen.wait(timeout=60)


def test_a_client_whose_search_was_cancelled_ends_though_it_goes_on(uri):
    raised = []

    def run():
        try:
            MongoSearch(functions.slow, {"x": range(3000)}, db=uri, name="long").run()
        except SearchCancelled as error:
            raised.append(error)

    client = threading.Thread(target=run)
    client.start()
    wait_for(lambda: servers.units(uri).count_documents({"state": "completed"}) >= 1)
    seen = attach("long", db=uri)
    seen.cancel()
    seen.extend({"x": [5000]})
    client.join(120)
    assert len(raised) == 1
    assert seen.counts()["queued"] == 1


def test_a_search_that_was_cancelled_goes_on_with_what_is_added(uri):
    MongoSearch(functions.parabola, {"x": range(6)}, db=uri, name="left").submit()
    seen = attach("left", db=uri)
    seen.cancel()
    assert seen.counts() == {"cancelled": 6}
    assert seen.extend({"x": [5, 6]}) == 2
    assert seen.record()["state"] == "running"
    assert seen.counts() == {"cancelled": 5, "queued": 2}
    MongoSearch(functions.parabola, {"x": [5, 6]}, db=uri).run()  # it stands for a worker
    assert seen.wait(timeout=60)
    assert seen.record()["state"] == "completed"


def test_a_search_with_a_generator_can_be_made_wider_too(uri):
    points = ({"x": x} for x in range(3))
    MongoSearch(functions.parabola, points, db=uri, name="drawn").run()
    seen = attach("drawn", db=uri)
    assert seen.extend({"x": [2, 3]}) == 1
    assert seen.counts() == {"completed": 3, "queued": 1}


def test_several_that_add_at_the_same_time_lose_nothing(uri):
    how = {"estimator": "", "space": "", "scoring": "", "n_candidates": 0, "n_splits": 1}
    record = new_record("s", "test", **how)
    with open_store(uri) as store:
        store.searches.open(record, [])
        threads = [
            threading.Thread(
                target=store.searches.add,
                args=(record.id, [Candidate(None, (f"u1:{n}:t",))]),
                kwargs={"goes_on": True},
            )
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(store.searches.unit_ids(record.id)) == sorted(f"u1:{n}:t" for n in range(20))


class Asks:
    def ask(self, n):
        return []


@pytest.mark.parametrize("space", [Asks(), lambda history: None])
def test_a_generator_that_learns_cannot_be_added(uri, space):
    search_of(uri, [1], name="weights").run()
    with pytest.raises(ValueError, match="needs a process that asks it"):
        attach("weights", db=uri).extend(space)
    with pytest.raises(ValueError, match="no candidates"):
        attach("weights", db=uri).extend([])


def test_a_search_of_an_estimator_says_what_to_do_instead(uri):
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    MongoSearchCV(Sleeper(), {"value": [1]}, cv=2, db=uri, name="cv").fit(X, y)
    with pytest.raises(
        ValueError,
        match="the wider space, where its function or estimator is: it scores only what is new",
    ):
        attach("cv", db=uri).extend({"value": [2]})


def test_missing_parts_are_an_error_before_anything_is_queued(uri):
    search_of(uri, [1], name="weights").run()
    database = servers.database(uri)
    database["bundles"].delete_many({})
    with pytest.raises(ValueError, match="is not in the database"):
        attach("weights", db=uri).extend({"weight": [2]})
    assert attach("weights", db=uri).counts() == {"completed": 1}
    asked = {**database["searches"].find_one()["asked"], "key": "function:0:abc"}
    asked["checksum"] = checksum_of(asked["key"], asked["work"], asked["environment"])
    database["searches"].update_many({}, {"$set": {"asked": asked}})
    with pytest.raises(ValueError, match="by other keys"):
        attach("weights", db=uri).extend({"weight": [2]})


def test_watching_to_the_end(uri):
    MongoSearch(functions.slow, {"x": range(12)}, db=uri, name="left").submit()
    search = MongoSearch(functions.slow, {"x": range(12)}, db=uri)
    seen = []
    for counts in attach("left", db=uri).watch():
        if not seen:
            client = threading.Thread(target=search.run)
            client.start()
        seen.append(counts)
    client.join()
    assert seen[0] == {"queued": 12}
    assert seen[-1] == {"completed": 12}
    assert all(one != other for one, other in itertools.pairwise(seen))
    assert all(sum(counts.values()) == 12 for counts in seen)
    assert attach("left", db=uri).record()["state"] == "completed"
