"""Low-discrepancy candidates, and asynchronous successive halving."""

from collections import Counter
from itertools import islice

import functions
import pytest
from scipy.stats import loguniform, qmc, randint, uniform
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import ParameterSampler

from optomatic import MongoSearch, MongoSearchCV
from optomatic.generators import AsyncHalving, QuasiRandom
from optomatic.records import Evaluation

SPACE = {"x": uniform(0, 6), "y": [0, 1]}


@pytest.mark.parametrize(("method", "engine"), [("sobol", qmc.Sobol), ("halton", qmc.Halton)])
def test_quasi_random_points_equal_scipys(method, engine):
    points = engine(2, seed=4).random(64)
    found = list(islice(QuasiRandom(SPACE, method=method, seed=4), 64))
    assert [c["x"] for c in found] == pytest.approx((6 * points[:, 0]).tolist())
    assert [c["y"] for c in found] == [int(v >= 0.5) for v in points[:, 1]]


def test_a_repeated_search_reuses_quasi_random_candidates(uri):
    def run(n):
        return MongoSearch(functions.parabola, QuasiRandom(SPACE, seed=1), n_iter=n, db=uri).run()

    assert run(8).summary_.scored == 8
    assert (run(16).summary_.stored, run(16).summary_.stored) == (8, 16)


def test_quasi_random_in_conditional_spaces_with_integers():
    space = [{"a": randint(2, 5)}, {"a": [9], "b": loguniform(1, 10)}]
    found = list(islice(QuasiRandom(space, seed=0), 128))
    assert {c["a"] for c in found} == {2, 3, 4, 9}
    assert all(type(c["a"]) is int for c in found)
    assert all(1 <= c["b"] <= 10 for c in found if c["a"] == 9)
    assert 50 <= sum("b" in c for c in found) <= 78


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("C", "a dict or a list of dicts, not 'C'"),
        ([], "not \\[\\]"),
        ({"C": "abc"}, "the values of 'C' are a list or a distribution"),
        ({"C": 3}, "not 3"),
        ({"C": []}, "the list of values of 'C' is empty"),
    ],
)
def test_quasi_random_refuses_a_wrong_space(space, message):
    with pytest.raises((TypeError, ValueError), match=message):
        QuasiRandom(space)


def halving(candidates, **options):
    options = {"resource": "r", "min_resources": 1, "max_resources": 9, **options}
    return AsyncHalving(candidates, **options)


def begun(candidates, direction="maximize", **options):
    generator = halving(candidates, **options)
    generator.begin({"score": direction})
    return generator


def told(generator, *numbers_and_scores):
    generator.tell(
        [Evaluation(n, {}, "completed", {"score": score}) for n, score in numbers_and_scores]
    )


def test_the_best_third_is_promoted_as_soon_as_it_is_known():
    asha = begun([{"x": x} for x in range(20)])
    assert asha.ask(3) == [{"x": 0, "r": 1}, {"x": 1, "r": 1}, {"x": 2, "r": 1}]
    told(asha, (0, 0.0), (1, 0.5))
    assert asha.ask(1) == [{"x": 3, "r": 1}]  # two have ended: nobody knows the best third yet
    told(asha, (2, 0.1))
    assert asha.ask(2) == [{"x": 1, "r": 3}, {"x": 4, "r": 1}]
    told(asha, (3, 0.9), (5, 0.4))  # of five one may go on: the new best, besides the old one
    assert asha.ask(1) == [{"x": 3, "r": 3}]


def test_rungs_end_at_max_resources():
    asha = begun([{"x": x} for x in range(9)])
    for _ in range(20):
        asked = asha.ask(1)
        if not asked:
            break
        told(asha, (len(asha._asked) - 1, -float(asked[0]["x"])))
    counts = Counter(asha._rungs[rung].resources for rung, _ in asha._asked)
    assert counts == {1: 9, 3: 3, 9: 1}  # nothing better came later, so nobody went on in vain
    assert asha.ask(3) == []


def test_failures_are_never_promoted_and_scores_may_be_minimized():
    asha = begun([{"x": x} for x in range(3)], direction="minimize", factor=2, max_resources=2)
    asha.ask(3)
    failed = Evaluation(0, {}, "failed", {}, error="it went wrong")
    asha.tell([failed])
    told(asha, (1, 5.0), (2, 7.0))
    assert asha.ask(2) == [{"x": 1, "r": 2}]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_by_asha_finds_the_best_with_most_resources(uri, n_jobs):
    candidates = [{"x": x} for x in (5, 0, 3, 1, 6, 2, 4, 9, 8)]
    search = MongoSearch(functions.noisy_parabola, halving(candidates), n_jobs=n_jobs, db=uri).run()
    frame = search.results_
    counts = frame["param_r"].value_counts()
    assert counts[1] == 9
    assert counts.sum() < 9 * 3
    most = frame[frame["param_r"] == 9]
    assert most.loc[most["score"].idxmax(), "param_x"] in (2, 3, 4)
    again = MongoSearch(
        functions.noisy_parabola, halving(candidates), db=uri, replay=search.search_id_
    ).run()
    assert again.summary_.scored == 0
    assert again.results_["param_r"].tolist() == frame["param_r"].tolist()


def test_asha_over_the_trees_of_a_forest(uri):
    X, y = make_classification(n_samples=120, random_state=0)
    space = {"max_depth": [1, 2, 3, None], "max_features": [1, 4, 9, 16]}
    generator = AsyncHalving(
        ParameterSampler(space, 9, random_state=0),
        resource="n_estimators",
        min_resources=2,
        max_resources=18,
    )
    search = MongoSearchCV(RandomForestClassifier(random_state=0), generator, cv=2, db=uri)
    trees = Counter(c["n_estimators"] for c in search.fit(X, y).cv_results_["params"])
    assert trees[2] == 9
    assert set(trees) == {2, 6, 18}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_resources": 0}, "min_resources is from 1 to max_resources, not 0 of 9"),
        ({"factor": 1.5}, "factor is a whole number from 2 on, not 1.5"),
    ],
)
def test_asha_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        halving([], **options)


def test_the_resource_is_no_param_of_a_candidate(uri):
    with pytest.raises(ValueError, match="AsyncHalving raised ValueError: 'r' is the resource"):
        MongoSearch(functions.noisy_parabola, halving([{"x": 1, "r": 2}]), db=uri).run()
