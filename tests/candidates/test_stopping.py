"""Searches that end early leave a valid result, and nothing in the queue."""

import time

import functions
import pytest
from servers import database, units
from waiting import begin_budgets_when

from optomatic import MongoSearch


def run(uri, space, function=functions.parabola, **options):
    return MongoSearch(function, space, db=uri, **options).run()


def warm_up(uri):
    """Have two local workers ready, so that a budget is not spent on starting them."""
    run(uri, {"x": [-1, -2], "seconds": [0.2]}, functions.slow, n_jobs=2)


def begin_when_completed(uri, monkeypatch, count=1):
    begin_budgets_when(
        lambda: units(uri).count_documents({"state": "completed"}) >= count, monkeypatch
    )


def states(uri):
    found = units(uri).find()
    return {u["_id"]: u["state"] for u in found}


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_time_budget_ends_a_search(uri, standalone_uri, n_jobs, monkeypatch):
    warm_up(standalone_uri)
    begin_when_completed(uri, monkeypatch)
    search = run(uri, {"x": range(2000)}, functions.slow, time_budget=3.0, n_jobs=n_jobs, verbose=1)
    assert 1 <= len(search.results_) < 2000
    assert set(search.results_["state"]) == {"completed"}
    assert search.best_score_ == search.results_["score"].max()
    assert "time_budget of 3 s is over" in str(search.summary_)
    assert set(states(uri).values()) == {"completed", "cancelled"}
    (record,) = database(uri)["searches"].find()
    assert record["state"] == "completed"
    assert record["summary"]["stopped"] == "time_budget of 3 s is over"


def test_running_units_get_a_grace_after_the_time_budget(uri, standalone_uri, monkeypatch):
    warm_up(standalone_uri)
    begin_when_completed(uri, monkeypatch, 2)
    began = time.monotonic()
    search = run(uri, {"x": [0, 1], "seconds": [0, 600]}, functions.slow, time_budget=3, n_jobs=2)
    assert time.monotonic() - began < 120  # it did not wait for what takes 600 s
    assert search.results_["param_seconds"].tolist() == [0, 0]
    assert sorted(states(uri).values()) == ["cancelled", "cancelled", "completed", "completed"]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_target_score_ends_a_search(uri, n_jobs):
    search = run(uri, iter([{"x": x} for x in range(200)]), target_score=0.0, n_jobs=n_jobs,
                 filters=[lambda candidates, history: [True] * len(candidates)])  # fmt: skip
    assert search.best_params_ == {"x": 3}
    assert 4 <= len(search.results_) < 200
    assert "target_score of 0 is reached" in str(search.summary_)
    assert "queued" not in states(uri).values()


def test_a_target_score_of_a_minimized_metric_ends_a_search(uri):
    search = run(uri, {"x": [3, 5, 0, 9]}, direction="minimize", target_score=-4, filters=[
        lambda candidates, history: [True] * len(candidates)])  # fmt: skip
    assert search.best_params_ == {"x": 5}
    assert len(search.results_) == 2


def test_n_no_improve_ends_a_search(uri):
    one_by_one = [lambda candidates, history: [True] * len(candidates)]
    search = run(uri, {"x": [1, 2, 3, 4, 5, 6, 7]}, n_no_improve=2, filters=one_by_one)
    assert search.results_["param_x"].tolist() == [1, 2, 3, 4, 5]
    assert "2 candidates were no better" in str(search.summary_)


def test_a_search_continues_one_that_ended_early(uri, monkeypatch):
    begin_when_completed(uri, monkeypatch)
    first = run(uri, {"x": range(40)}, functions.slow, time_budget=1.0)
    whole = run(uri, {"x": range(40)}, functions.slow)
    assert whole.summary_.stored == len(first.results_) < 40
    assert len(whole.results_) == 40


def test_a_time_budget_without_a_complete_candidate(uri):
    with pytest.raises(ValueError, match=r"No candidate was completed \(time_budget of 0.5 s"):
        run(uri, {"x": [1], "seconds": [600]}, functions.slow, time_budget=0.5, n_jobs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_budget": 0}, "time_budget is a number of seconds above 0, not 0"),
        ({"time_budget": "1h"}, "not '1h'"),
        ({"target_score": float("nan")}, "target_score is a number, not nan"),
        ({"n_no_improve": 1.5}, "n_no_improve is a number of candidates from 1 on, not 1.5"),
    ],
)
def test_wrong_limits_are_refused(uri, options, message):
    with pytest.raises(ValueError, match=message):
        run(uri, {"x": [1]}, **options)
