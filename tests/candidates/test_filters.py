"""Filters leave candidates out, with reasons that are counted, shown and stored."""

from itertools import count

import functions
import numpy as np
import pytest
import servers
from scipy.stats import uniform
from sklearn.model_selection import ParameterGrid, ParameterSampler

from optomatic import MongoSearch
from optomatic.candidates.filters import candidates_in
from optomatic.errors import FilterFailed
from optomatic.filters import NearFilter, PromisingFilter, SeenFilter, ValidFilter
from optomatic.records import Evaluation
from optomatic.results.frames import frame_of


def run(uri, space, filters, function=functions.parabola, **options):
    return MongoSearch(function, space, filters=filters, db=uri, **options).run()


def history_of(candidates, score=lambda c: 0.0, state="completed"):
    return frame_of(
        Evaluation(n, c, state, {"score": float(score(c))}) for n, c in enumerate(candidates)
    )


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_filtered_candidates_are_counted_shown_and_stored(uri, n_jobs):
    filters = [
        ValidFilter(lambda c: c["x"] + c["y"] < 6),
        lambda candidates, history: ["odd" if c["x"] == 3 else None for c in candidates],
        SeenFilter(),
    ]
    search = run(uri, {"x": range(5), "y": [0, 2, 2]}, filters, n_jobs=n_jobs)
    said = "8 of 15 left out: 3 seen, 3 odd, 2 invalid"
    assert str(search.summary_).endswith(f"; {said}")
    assert search.summary_.scored == len(search.results_) == 7
    (record,) = servers.database(uri)["searches"].find()
    assert record["summary"]["left_out"] == [["seen", 3], ["odd", 3], ["invalid", 2]]
    assert said in record["summary"]["line"]


def test_a_filter_may_return_a_mask(uri):
    def small(candidates, history):
        return np.array([c["x"] < 2 for c in candidates])

    search = run(uri, {"x": range(4)}, [small])
    assert search.results_["param_x"].tolist() == [0, 1]
    assert list(search.results_.index) == [0, 1]
    assert "2 of 4 left out: 2 " in str(search.summary_)


def test_the_generator_is_told_of_filtered_candidates(uri):
    told = []

    class Counting:
        def __init__(self):
            self.numbers = count()

        def ask(self, n):
            return [{"x": next(self.numbers)} for _ in range(n)]

        def tell(self, evaluations):
            told.extend((e.params["x"], e.state, e.error) for e in evaluations)

    run(uri, Counting(), [ValidFilter(lambda c: c["x"] % 2)], n_iter=4)
    assert told == [
        (0, "left out", "invalid"),
        (1, "completed", None),
        (2, "left out", "invalid"),
        (3, "completed", None),
    ]


def test_filters_that_leave_out_everything_end_the_search(uri):
    with pytest.raises(ValueError, match=r"the last 1,\d+ candidates were all left out"):
        run(uri, ({"x": x} for x in count()), [ValidFilter(lambda c: False)])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda c, h: 1 / 0, "raised ZeroDivisionError"),
        (lambda c, h: [], "gave 0 answers for 1 candidates"),
        (lambda c, h: [0.5], "answered 0.5"),
    ],
)
def test_a_filter_that_fails_is_named(uri, answers, message):
    def picky(candidates, history):
        return answers(candidates, history) if len(history) == 2 else [True] * len(candidates)

    with pytest.raises(FilterFailed, match=rf"The filter .*picky {message}"):
        run(uri, {"x": range(4)}, [picky])
    units = servers.units(uri)
    assert sorted(u["state"] for u in units.find()) == ["completed", "completed"]


def test_seen_filter_compares_type_and_content():
    history = history_of([{"a": 1, "b": (1, 2)}, {"a": 2}])
    candidates = [{"b": (1, 2), "a": 1}, {"a": 1.0}, {"a": 2}, {"a": 3}, {"a": 3}]
    assert SeenFilter()(candidates, history) == ["seen", None, "seen", None, "seen"]


def test_near_filter_leaves_out_near_candidates():
    tried = [{"C": 1.0, "kind": "a"}, {"C": 1000.0, "kind": "a"}]
    candidates = [{"C": 1.02, "kind": "a"}, {"C": 1.02, "kind": "b"}, {"C": 30.0, "kind": "a"}]
    near = "too near"
    assert NearFilter(0.05)(candidates, history_of(tried)) == [near, None, near]
    assert NearFilter(0.05, log=["C"])(candidates, history_of(tried)) == [near, None, None]
    assert NearFilter()([{"C": 5}, {"C": 5}], history_of([])) == [None, near]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_promising_filter_keeps_the_best_part(direction):
    sign = 1 if direction == "maximize" else -1
    rng = np.random.RandomState(0)

    def draw(n):
        space = {"x": uniform(0, 6), "kind": ["bad", "good", "ugly"], "more": [None, 1]}
        return list(ParameterSampler(space, n, random_state=rng))

    def goodness(c):
        return sign * (5 * (c["kind"] == "good") - abs(c["x"] - 3))

    promising = PromisingFilter(keep=0.3)
    promising.begin({"score": direction})
    assert promising(draw(5), history_of(draw(10), goodness)) == [None] * 5  # too little is known
    candidates = draw(100)
    answers = promising(candidates, history_of(draw(80), goodness))
    kept = [c for c, answer in zip(candidates, answers, strict=True) if answer is None]
    assert set(answers) == {None, "unpromising"}
    assert 15 <= len(kept) <= 50
    true = np.array([sign * goodness(c) for c in candidates])
    assert np.mean([sign * goodness(c) for c in kept]) > np.quantile(true, 0.75)


def test_a_search_with_the_promising_filter(uri):
    space = ParameterGrid({"x": np.linspace(0, 6, 60).tolist()})
    shuffled = [space[n] for n in np.random.RandomState(0).permutation(60)]
    search = run(uri, iter(shuffled), [PromisingFilter(min_history=20)])
    assert len(search.results_) < 50
    assert "unpromising" in str(search.summary_)
    assert search.best_params_ == max(shuffled, key=lambda c: functions.parabola(**c))


def test_a_history_gives_its_candidates_back():
    candidates = [{"a": 1}, {"b": [1, 2], "a": None}, {}]
    assert candidates_in(history_of(candidates)) == candidates
