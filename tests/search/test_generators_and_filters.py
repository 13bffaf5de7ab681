"""MongoSearchCV over generators, with filters, and ended early."""

import numpy as np
import pytest
from estimators import Sleeper
from servers import units
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from waiting import begin_budgets_when

from optomatic import MongoSearchCV
from optomatic.errors import GeneratorFailed
from optomatic.filters import ValidFilter

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
IRIS = load_iris(return_X_y=True)


class Halver:
    """Steps from the best so far, half as far each time."""

    def __init__(self):
        self.step, self.best = 8.0, (-np.inf, 1.0)

    def ask(self, n):
        self.step /= 2
        return [{"C": self.best[1] * 2 ** (self.step * (k + 1))} for k in range(n)]

    def tell(self, evaluations):
        self.best = max([self.best, *((e.scores["score"], e.params["C"]) for e in evaluations)])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_an_adaptive_generator(uri, n_jobs):
    def fit(**options):
        search = MongoSearchCV(SVC(), Halver(), n_iter=7, cv=3, db=uri, **options)
        return clone(search).fit(*IRIS)

    search = fit(n_jobs=n_jobs)
    tried = [{"C": [candidate["C"]]} for candidate in search.cv_results_["params"]]
    theirs = GridSearchCV(SVC(), tried, cv=3).fit(*IRIS)
    assert len(tried) == 7
    for column in ("split0_test_score", "split2_test_score", "mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(search.cv_results_[column], theirs.cv_results_[column])
    assert search.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(search.predict(IRIS[0]), theirs.predict(IRIS[0]))
    again = fit(replay=search.search_id_)
    assert again.summary_.scored == 0
    assert again.cv_results_["params"] == search.cv_results_["params"]


def test_the_history_has_mean_scores(uri):
    seen = []

    def next_value(history):
        seen.append(history)
        return {"value": len(history)} if len(history) < 3 else None

    MongoSearchCV(Sleeper(), next_value, cv=2, db=uri).fit(X, Y)
    assert seen[-1]["score"].tolist() == [0.0, 1.0, 2.0]
    assert seen[-1]["param_value"].tolist() == [0, 1, 2]


def test_filters_leave_rows_out(uri):
    search = MongoSearchCV(
        Sleeper(),
        {"value": [1, 2, 3]},
        cv=2,
        db=uri,
        filters=[ValidFilter(lambda c: c["value"] != 2)],
    ).fit(X, Y)
    assert search.cv_results_["params"] == [{"value": 1}, {"value": 3}]
    assert "1 of 3 left out: 1 invalid" in str(search.summary_)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_time_budget_leaves_a_fitted_search(uri, standalone_uri, n_jobs, monkeypatch):
    first = {"params.value": 0, "state": "completed"}
    begin_budgets_when(lambda: units(uri).count_documents(first) == 2, monkeypatch)
    MongoSearchCV(Sleeper(), {"value": [1, 2]}, cv=2, n_jobs=2, db=standalone_uri).fit(X, Y)
    search = MongoSearchCV(
        Sleeper(seconds=0.1),
        {"value": list(range(500))},
        cv=2,
        n_jobs=n_jobs,
        db=uri,
        time_budget=3.0,
    ).fit(X, Y)
    rows = search.cv_results_
    assert 1 <= len(rows["params"]) < 500
    np.testing.assert_array_equal(
        rows["mean_test_score"], [float(candidate["value"]) for candidate in rows["params"]]
    )
    assert search.best_params_["value"] == max(c["value"] for c in rows["params"])
    assert search.predict(X).shape == (20,)
    states = {u["state"] for u in units(uri).find()}
    assert states == {"completed", "cancelled"}


def test_a_target_of_mean_scores(uri):
    search = MongoSearchCV(
        Sleeper(), {"value": list(range(3000))}, cv=2, db=uri, target_score=2.0, refit=False
    ).fit(X, Y)
    assert 3 <= len(search.cv_results_["params"]) < 3000
    assert "target_score of 2 is reached" in str(search.summary_)


def test_unknown_params_name_the_generator(uri):
    class Mistaken:
        def ask(self, n):
            return [{"gamma": 1, "svc__C": 2}]

    with pytest.raises(GeneratorFailed, match=r"Mistaken gave .*Invalid parameter 'svc'"):
        MongoSearchCV(SVC(), Mistaken(), n_iter=3, db=uri).fit(*IRIS)
