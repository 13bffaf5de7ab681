"""Racing stops candidates by a test; the table has their splits."""

import math
import os
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from estimators import Sleeper
from scipy import stats
from servers import units
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from waiting import begin_budgets_when

from optomatic import (
    MongoHalvingGridSearchCV,
    MongoHalvingRandomSearchCV,
    MongoSearchCV,
    Racing,
    attach,
)
from optomatic.candidates.racing import leaders, losers, p_values
from optomatic.errors import NoProgress
from optomatic.filters import ValidFilter

DIGITS = tuple(part[:400] for part in load_digits(return_X_y=True))
GRID = {"C": [0.01, 1, 10], "gamma": [1e-5, 1e-4, 1e-3, 1e-2]}
X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


def search(uri, space=GRID, **options):
    return MongoSearchCV(SVC(), space, cv=5, db=uri, **{"racing": True, **options})


def scored(table):
    """Return which of the splits of a table have a score: shape (candidates, splits)."""
    n_splits = sum(f"split{k}_test_score" in table for k in range(20))
    return np.isfinite([table[f"split{k}_test_score"] for k in range(n_splits)]).T


def assert_equal_tables(ours, theirs, *, times=False):
    """Every column is equal, bit for bit; but for times, where they were measured anew."""
    assert list(ours) == list(theirs)
    for name in ours:
        if name == "params":
            assert ours[name] == theirs[name]
        elif times or "time" not in name:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


# The test


def test_the_statistic_by_hand():
    # Leads of 0.1, 0.2, 0.3: mean 0.2, variance 0.01; Student's distribution with 2 degrees of
    # freedom has a closed form.
    t = 0.2 / math.sqrt((1 / 3 + 1 / 4) * 0.01)
    expected = 1 / 2 - t / (2 * math.sqrt(2 + t * t))
    (p,) = p_values(np.array([0.9, 0.9, 0.9]), np.array([[0.8, 0.7, 0.6]]), 1 / 4)
    assert p == pytest.approx(expected, rel=1e-12)
    assert 0.05 < p < 0.1


def test_without_the_correction_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    leader, others = rng.normal(size=6), rng.normal(size=(50, 6))
    expected = [stats.ttest_rel(leader, other, alternative="greater").pvalue for other in others]
    np.testing.assert_allclose(p_values(leader, others, 0.0), expected, rtol=1e-10)
    corrected = p_values(leader, others, 1 / 5)
    ahead = others.mean(axis=1) < leader.mean()
    assert np.all(corrected[ahead] > np.array(expected)[ahead])


def test_constant_leads_and_no_lead_have_p_values_0_and_1():
    leader = np.array([0.5, 0.7, 0.6])
    others = np.array([leader - 0.1, leader, leader * (1 + 1e-15), leader + 0.1])
    np.testing.assert_allclose(p_values(leader, others, 0.25), [0, 1, 1, 1], atol=1e-12)


def judge(*rows, judged=None, alpha=0.05):
    scores = dict(enumerate(rows))
    return losers(scores, scores if judged is None else judged, [0.25] * 5, alpha)


def test_clearly_worse_candidates_are_out():
    best, close, bad = [0.90, 0.91, 0.92], [0.91, 0.90, 0.90], [0.5, 0.6, 0.55]
    assert judge(close, bad, best) == [1]
    assert judge(close, bad, best, judged=[0, 2]) == []
    assert judge(close, bad, best, alpha=1e-6) == []


def test_each_candidate_is_judged_on_its_own_splits():
    # 0 leads over five splits, 1 over the three that it shares with 2.
    long, short, other = [0.5, 0.6, 0.5, 0.9, 0.9], [0.91, 0.92, 0.90], [0.8, 0.82, 0.79]
    assert judge(long, short, other) == [2]
    assert judge(long, other, judged=[0]) == []


def test_only_leaders_matter_for_others():
    rng = np.random.default_rng(0)
    scores = {n: list(rng.normal(0.9, 0.05, size=rng.integers(3, 6))) for n in range(40)}
    judged = {n: scores.pop(n) for n in range(20)}
    few = {n: scores[n] for n in leaders(scores)}
    assert len(few) <= 5
    for n, own in judged.items():
        alone = losers({**few, n: own}, [n], [0.25] * 5, 0.05)
        assert alone == losers({**scores, n: own}, [n], [0.25] * 5, 0.05)
    assert leaders({}) == set()


def test_nan_scores_lose():
    nan, inf = math.nan, math.inf
    good = [0.9, 0.8, 0.9]
    assert judge(good, [0.9, nan, 0.9], [0.9, -inf, 0.9]) == [1, 2]
    assert judge([nan, 0.5, 0.5], [nan, nan, nan]) == []  # nobody leads
    assert judge([inf, 0.9, 0.9], good) == []  # who knows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha is a probability, above 0 and below 1, not 0"),
        ({"alpha": 1.0}, "not 1.0"),
        ({"alpha": "5%"}, "not '5%'"),
        ({"min_splits": 1}, "min_splits is a number of splits from 2 on, not 1: one score"),
        ({"min_splits": 2.5}, "not 2.5"),
    ],
)
def test_racing_refuses_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        Racing(**options)


# Candidates that are all known


@pytest.fixture(scope="module")
def whole():
    """The same search by scikit-learn, with all splits of all candidates."""
    return GridSearchCV(SVC(), GRID, cv=5).fit(*DIGITS)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_table_has_the_splits_of_stopped_candidates(uri, whole, n_jobs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # splits that were left out are nothing to warn of
        warnings.simplefilter("ignore", NoProgress)  # workers may take long to start
        ours = search(uri, n_jobs=n_jobs).fit(*DIGITS)
    table, full = ours.cv_results_, whole.cv_results_
    there, after = scored(table), table["stopped_after"]
    out = np.isfinite(after)
    assert out.sum() >= 6
    np.testing.assert_array_equal(there.sum(axis=1), np.where(out, after, 5))
    for n, params in enumerate(full["params"]):
        assert table["params"][n] == params
        own = np.array([full[f"split{k}_test_score"][n] for k in range(5)])[there[n]]
        assert [table[f"split{k}_test_score"][n] for k in np.flatnonzero(there[n])] == own.tolist()
        assert (table["mean_test_score"][n], table["std_test_score"][n]) == (own.mean(), own.std())
    ranks, means = table["rank_test_score"], table["mean_test_score"]
    np.testing.assert_array_equal(ranks[~out], stats.rankdata(-means[~out], method="min"))
    behind = (~out).sum() + stats.rankdata(-means[out], method="min")
    np.testing.assert_array_equal(ranks[out], behind)
    assert ranks.dtype == full["rank_test_score"].dtype
    assert np.isfinite([table["mean_fit_time"], table["std_score_time"]]).all()
    assert (ours.best_params_, ours.best_score_) == (whole.best_params_, whole.best_score_)
    assert math.isnan(after[ours.best_index_])
    # Nothing else was ever asked for.
    assert units(uri).count_documents({}) == there.sum() == ours.summary_.scored
    assert sum(unit["runs"] for unit in units(uri).find()) == there.sum()
    spared = f"{out.sum()} of 12 candidates stopped early by racing, {60 - there.sum()} units"
    assert spared in str(ours.summary_)
    again = clone(ours).set_params(n_jobs=None).fit(*DIGITS)
    assert (again.summary_.scored, again.summary_.stored) == (0, there.sum())
    assert_equal_tables(again.cv_results_, table, times=True)


def test_stored_scores_do_not_change_decisions(uri, standalone_uri):
    MongoSearchCV(SVC(), GRID, cv=5, db=uri).fit(*DIGITS)
    stored = search(uri).fit(*DIGITS)
    assert stored.summary_.scored == 0
    anew = search(standalone_uri, n_jobs=2).fit(*DIGITS)
    assert anew.summary_.stored == 0
    assert_equal_tables(stored.cv_results_, anew.cv_results_)


def test_without_stopped_candidates_the_table_is_as_without_racing(uri):
    options = {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro", "return_train_score": True}
    careful = search(uri, racing=Racing(alpha=1e-12), **options).fit(*DIGITS)
    plain = search(uri, racing=None, **options).fit(*DIGITS)
    assert np.isnan(careful.cv_results_.pop("stopped_after")).all()
    assert_equal_tables(careful.cv_results_, plain.cv_results_, times=True)
    assert careful.best_index_ == plain.best_index_


def test_several_metrics_and_train_scores(uri):
    ours = search(
        uri, scoring=["accuracy", "f1_macro"], refit="f1_macro", return_train_score=True
    ).fit(*DIGITS)
    table = ours.cv_results_
    out = np.isfinite(table["stopped_after"])
    assert out.any()
    assert not out.all()
    for column in ("test_accuracy", "test_f1_macro", "train_accuracy", "train_f1_macro"):
        splits = np.array([table[f"split{k}_{column}"] for k in range(5)])
        np.testing.assert_array_equal(np.isnan(splits).any(axis=0), out)
        np.testing.assert_array_equal(table[f"mean_{column}"], np.nanmean(splits, axis=0))
    for ranks in (table["rank_test_accuracy"], table["rank_test_f1_macro"]):
        assert ranks[out].min() == 1 + (~out).sum()
    assert ours.best_score_ == np.max(table["mean_test_f1_macro"][~out])


def test_a_raced_search_is_stored(uri):
    ours = search(uri, racing=Racing(min_splits=4), name="raced").fit(*DIGITS)
    frame = pd.DataFrame(ours.cv_results_)
    assert set(frame["stopped_after"].dropna()) == {4.0}
    copy = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(copy.predict(DIGITS[0]), ours.predict(DIGITS[0]))
    assert_equal_tables(copy.cv_results_, ours.cv_results_, times=True)
    assert clone(ours).racing == ours.get_params()["racing"] == Racing(min_splits=4)
    seen = attach("raced", db=uri)
    np.testing.assert_array_equal(seen.to_frame()["score"], frame["mean_test_score"])
    assert seen.counts() == {"completed": scored(ours.cv_results_).sum()}


def test_duplicate_candidates_share_units_in_a_race(uri):
    ours = search(uri, [{"C": [10]}, {"C": [1e-3, 10]}, {"C": [1e-3]}]).fit(*DIGITS)
    np.testing.assert_array_equal(ours.cv_results_["stopped_after"], [np.nan, 3, np.nan, 3])
    assert units(uri).count_documents({}) == 8


# Scores that are missing


@pytest.mark.parametrize("error_score", [np.nan, 0.0])
def test_failed_fits_lose_a_race(uri, error_score):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ours = search(uri, {"C": [1, -1]}, error_score=error_score).fit(*DIGITS)
    texts = [str(warning.message) for warning in said]
    table = ours.cv_results_
    np.testing.assert_array_equal(table["stopped_after"], [np.nan, 3])
    assert table["rank_test_score"].tolist() == [1, 2]
    assert any("3 fits failed out of a total of 8" in text for text in texts)
    assert sum("non-finite" in text for text in texts) == (1 if math.isnan(error_score) else 0)
    np.testing.assert_array_equal(table["mean_test_score"][1], error_score)


# What cannot be raced


@pytest.mark.parametrize("refit", [False, lambda results: 0])
def test_racing_with_several_metrics_needs_refit(uri, refit):
    with pytest.raises(ValueError, match=r"there are 2 .accuracy, f1_macro.. Nothing was queued"):
        search(uri, scoring=["accuracy", "f1_macro"], refit=refit).fit(*DIGITS)
    assert units(uri).count_documents({}) == 0


def test_one_metric_with_a_name_decides(uri):
    ours = search(uri, scoring=["accuracy"], refit=False).fit(*DIGITS)
    assert np.isfinite(ours.cv_results_["stopped_after"]).any()


def two_scores(estimator, X, y):
    return {"own": estimator.score(X, y), "same": 1.0}


def test_a_function_of_several_scores_needs_one_too(uri):
    with pytest.raises(ValueError, match=r"scoring returned 2 .own, same.. All scores are stored"):
        search(uri, scoring=two_scores, refit=False).fit(*DIGITS)
    assert units(uri).count_documents({"state": {"$in": ["queued", "running"]}}) == 0
    ours = search(uri, scoring=two_scores, refit="own").fit(*DIGITS)
    assert np.isfinite(ours.cv_results_["stopped_after"]).any()


def test_refit_must_not_choose_one_that_was_stopped(uri):
    def last(results):
        return int(np.flatnonzero(np.isfinite(results["stopped_after"]))[-1])

    with pytest.raises(ValueError, match="which racing stopped after 3 of 5 splits"):
        search(uri, refit=last).fit(*DIGITS)


def test_no_candidate_is_stopped_with_few_splits(uri):
    with pytest.warns(UserWarning, match="racing stops nobody: cv makes 3 splits"):
        ours = search(uri).set_params(cv=3).fit(*DIGITS)
    assert np.isnan(ours.cv_results_["stopped_after"]).all()


def test_halving_does_not_race():
    for halving in (MongoHalvingGridSearchCV, MongoHalvingRandomSearchCV):
        assert "racing" not in halving(SVC(), GRID).get_params()


def test_racing_takes_a_bool_or_a_rule(uri):
    with pytest.raises(ValueError, match="The 'racing' parameter"):
        search(uri, racing="yes").fit(*DIGITS)


# Candidates that come about meanwhile


class Around:
    """Asks for values around the best so far, never for one twice; remembers what it was told."""

    told = []

    def __init__(self):
        self.asked, self.best = 0, (0.5, 1e-3)

    def ask(self, n):
        return [self.next() for _ in range(n)]

    def next(self):
        self.asked += 1
        return {"gamma": self.best[1] * (1 + self.asked / 100) * (1e-3 if self.asked % 2 else 1)}

    def tell(self, evaluations):
        Around.told += evaluations
        found = [(e.scores["score"], e.params["gamma"]) for e in evaluations]
        self.best = max([self.best, *found])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_race_of_an_adaptive_generator_is_replayed(uri, n_jobs):
    Around.told = []
    ours = search(uri, Around(), n_iter=8, n_jobs=n_jobs).fit(*DIGITS)
    table, out = ours.cv_results_, np.isfinite(ours.cv_results_["stopped_after"])
    assert out.any()
    assert len(table["params"]) == 8
    told = {e.number: e for e in Around.told}
    states = ["stopped" if is_out else "completed" for is_out in out]
    assert [told[n].state for n in range(8)] == states
    means = [told[n].scores["score"] for n in range(8)]
    np.testing.assert_array_equal(means, table["mean_test_score"])
    assert units(uri).count_documents({}) == scored(table).sum()
    again = search(uri, Around(), n_iter=8, replay=ours.search_id_).fit(*DIGITS)
    assert again.summary_.scored == 0
    assert_equal_tables(again.cv_results_, table, times=True)


def test_a_replay_of_an_interrupted_race_goes_on_to_the_end(uri):
    first = search(uri, Around(), n_iter=30, n_jobs=2, target_score=0.9).fit(*DIGITS)
    again = search(uri, Around(), n_iter=30, replay=first.search_id_).fit(*DIGITS)
    assert "target_score" in str(first.summary_)
    known = [
        params for params in again.cv_results_["params"] if params in first.cv_results_["params"]
    ]
    assert known == first.cv_results_["params"]
    after = again.cv_results_["stopped_after"]
    np.testing.assert_array_equal(
        scored(again.cv_results_).sum(axis=1), np.where(np.isfinite(after), after, 5)
    )


def test_a_replay_refuses_another_rule(uri):
    plain = search(uri, Around(), n_iter=2, racing=None).fit(*DIGITS)
    with pytest.raises(ValueError, match="was made without racing, and this one with racing"):
        search(uri, Around(), n_iter=2, replay=plain.search_id_).fit(*DIGITS)
    raced = search(uri, Around(), n_iter=2).fit(*DIGITS)
    for other in ({"racing": None}, {"racing": Racing(min_splits=2)}, {"cv": 6}):
        again = search(uri, Around(), n_iter=2, replay=raced.search_id_).set_params(**other)
        with pytest.raises(ValueError, match=r"with racing .min_splits=3, alpha=0.05, 5 splits"):
            again.fit(*DIGITS)


def test_filters_see_stopped_candidates(uri):
    seen = []

    def look(candidates, history):
        seen.append(history)
        return [True] * len(candidates)

    ours = search(uri, {"gamma": [1e-3, 1e-6, 1e-9, 1e-5, 1e-7]}, filters=[
        ValidFilter(lambda c: c["gamma"] != 1e-9), look]).fit(*DIGITS)  # fmt: skip
    np.testing.assert_array_equal(ours.cv_results_["stopped_after"], [np.nan, 3, 3, 3])
    assert seen[-1]["state"].tolist() == ["completed", "stopped", "stopped"]
    assert "1 of 5 left out: 1 invalid; 3 of 4 candidates stopped early by racing" in str(
        ours.summary_
    )


# Searches that end early


def test_n_no_improve_counts_stopped_candidates(uri):
    ours = search(uri, {"gamma": [1e-3, *(10.0**-k for k in range(5, 25))]}, n_no_improve=3)
    table = ours.fit(*DIGITS).cv_results_
    np.testing.assert_array_equal(table["stopped_after"], [np.nan, 3, 3, 3])
    assert ours.best_params_ == {"gamma": 1e-3}


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_time_budget_ends_a_race_with_complete_candidates(
    uri, standalone_uri, n_jobs, monkeypatch
):
    best = {"params.value": 2, "state": "completed"}
    begin_budgets_when(lambda: units(uri).count_documents(best) == 5, monkeypatch)
    # Two local workers are ready, so that the budget is not spent on starting them.
    MongoSearchCV(Sleeper(), {"value": [1, 2]}, cv=2, n_jobs=2, db=standalone_uri).fit(X, Y)
    space = {"value": [0, 1, 2, *range(-1, -2000, -1)]}
    ours = MongoSearchCV(
        Sleeper(seconds=0.02), space, cv=5, db=uri, racing=True, n_jobs=n_jobs, time_budget=3.0
    ).fit(X, Y)
    table = ours.cv_results_
    there = scored(table)
    np.testing.assert_array_equal(
        there.sum(axis=1), np.where(np.isnan(table["stopped_after"]), 5, table["stopped_after"])
    )
    assert 1 <= len(there) < 2000
    assert "time_budget of 3 s is over" in str(ours.summary_)
    assert math.isnan(table["stopped_after"][ours.best_index_])
    assert units(uri).count_documents({"state": {"$in": ["queued", "running"]}}) == 0


class Interrupting(SVC):
    """Somebody presses Ctrl-C in the fortieth fit, as counted in a file."""

    def fit(self, X, y):
        with open(os.environ["FITS"], "a") as file:
            file.write(".")
            if file.tell() == 40:
                raise KeyboardInterrupt
        return super().fit(X, y)


def test_after_ctrl_c_the_same_race_goes_on(uri, standalone_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("FITS", str(tmp_path / "fits"))
    ours = MongoSearchCV(Interrupting(), GRID, cv=5, db=uri, racing=True)
    with pytest.raises(KeyboardInterrupt):
        ours.fit(*DIGITS)
    assert units(uri).count_documents({"state": "completed"}) == 39
    ours.fit(*DIGITS)
    assert ours.summary_.stored == 39
    whole = clone(ours).set_params(db=standalone_uri).fit(*DIGITS)
    assert whole.summary_.stored == 0
    assert_equal_tables(ours.cv_results_, whole.cv_results_)


# What a race must get over


X_LAST = X[-1, 0]


class FailsLate(Sleeper):
    """Of all values 9 scores best, but where the last row is left out its fit fails."""

    def fit(self, X, y):
        if self.value == 9 and not (X[:, 0] == X_LAST).any():
            raise ValueError("it cannot do without the last row")
        return super().fit(X, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_stopped_candidate_returns_if_the_leader_fails(uri, n_jobs):
    grid = {"value": [1, 9, 3, 2]}
    options = {"cv": KFold(5), "db": uri, "n_jobs": n_jobs}
    raced = MongoSearchCV(FailsLate(), grid, racing=True, name="race", **options).fit(X, Y)
    table = raced.cv_results_
    assert raced.best_params_ == {"value": 3}
    assert raced.best_score_ == 3.0
    np.testing.assert_array_equal(table["stopped_after"], [3, np.nan, np.nan, 3])
    np.testing.assert_array_equal(table["rank_test_score"], [4, 2, 1, 3])
    assert units(uri).count_documents({}) == scored(table).sum() + 1  # one has no score
    again = MongoSearchCV(FailsLate(), grid, racing=True, replay="race", **options).fit(X, Y)
    assert again.summary_.scored == 0
    assert_equal_tables(again.cv_results_, table, times=True)


def test_equal_splits_are_one_unit_in_a_race(uri):
    splits = list(KFold(3).split(X))
    cv = [*splits, splits[0], splits[2]]
    grid = {"C": [1e-5, 0.1, 10]}
    raced = MongoSearchCV(SVC(), grid, cv=cv, racing=True, db=uri).fit(X, Y)
    plain = GridSearchCV(SVC(), grid, cv=cv).fit(X, Y)
    complete = np.isnan(raced.cv_results_["stopped_after"])
    assert complete.any()
    for name in ("split3_test_score", "split4_test_score", "mean_test_score"):
        ours, theirs = raced.cv_results_[name], plain.cv_results_[name]
        np.testing.assert_array_equal(ours[complete], theirs[complete])


def test_units_of_all_asks_share_a_queue(uri, monkeypatch):
    """Later splits are queued together, of candidates that are made of different things."""
    monkeypatch.setattr("optomatic.driver.adaptive._FAR_AHEAD", 3)
    monkeypatch.setenv("OPTOMATIC_TAG", "quick")
    splits = list(KFold(5).split(X))
    around = Pipeline([("model", DummyClassifier())])
    grid = {"model": [DummyClassifier(), Sleeper()]}  # equally good
    options = {"scoring": "accuracy", "db": uri}
    MongoSearchCV(around, grid, cv=splits[:3], **options).fit(X, Y)
    options.update(racing=True, requires={"quick"})
    MongoSearchCV(around, grid, cv=splits, **options).fit(X, Y)
    queues = {queue["_id"] for queue in units(uri).database["queues"].find()}
    used = {unit["queue"] for unit in units(uri).find()}
    assert len(used) >= 3
    assert used <= queues
