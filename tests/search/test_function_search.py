"""MongoSearch: any function, the same units, workers and reuse."""

import functions
import numpy as np
import pytest
import servers
from scipy.stats import uniform
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ParameterGrid, ParameterSampler

from optomatic import MongoSearch
from optomatic.errors import KeyNotCertain, NotShippable, UnitFailed

ENGINES = [None, 2]


def units(uri):
    return list(servers.units(uri).find())


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_the_best_of_a_grid(uri, n_jobs):
    search = MongoSearch(
        functions.parabola, {"x": range(6), "y": [0, 1]}, n_jobs=n_jobs, db=uri
    ).run()
    assert search.best_params_ == {"x": 3, "y": 0}
    assert search.best_score_ == 0.0
    assert search.results_["score"].tolist() == [
        functions.parabola(**candidate) for candidate in ParameterGrid({"x": range(6), "y": [0, 1]})
    ]
    assert (search.summary_.scored, search.summary_.stored) == (12, 0)
    assert {(u["kind"], u["state"], u["runs"]) for u in units(uri)} == {
        ("function", "completed", 1)
    }


def test_minimize_takes_the_least(uri):
    search = MongoSearch(functions.parabola, {"x": range(6)}, direction="minimize", db=uri).run()
    assert (search.best_params_, search.best_score_) == ({"x": 0}, -9.0)


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_an_extra_comes_back_as_it_was(uri, n_jobs):
    for _ in range(2):  # computed, then stored
        search = MongoSearch(functions.with_extra, {"x": [1, 2]}, n_jobs=n_jobs, db=uri).run()
        assert search.best_extra_["path"] == (2, "é", None)
        assert search.results_["extra"][0]["path"] == (1, "é", None)
    assert search.summary_.stored == 2


def test_several_metrics(uri):
    def best(**options):
        return MongoSearch(functions.metrics, {"x": [1, 2, 3]}, db=uri, **options).run()

    assert best(direction="minimize").best_params_ == {"x": 1}
    by_gain = best(metric="gain", direction="minimize")
    assert by_gain.best_params_ == {"x": 3}
    assert by_gain.results_["score_loss"].tolist() == [1.0, 2.0, 3.0]
    assert by_gain.summary_.stored == 3
    with pytest.raises(ValueError, match=r"metric is 'auc', and the function returned \['loss'"):
        best(metric="auc")


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_data_is_given_once_and_counts(uri, n_jobs):
    X, y = np.arange(6.0).reshape(3, 2), np.array([1, 0, 1])

    def run(X):
        data = {"X": X, "y": y}
        return MongoSearch(
            functions.of_data, {"weight": [1, 2]}, data=data, n_jobs=n_jobs, db=uri
        ).run()

    assert run(X).best_score_ == 33.0
    assert run(X.copy()).summary_.scored == 0
    assert run(X + 1).summary_.scored == 2
    assert {tuple(sorted(u["spec"])) for u in units(uri)} == {
        ("data:X", "data:y", "env", "payload", "split")
    }


def test_a_longer_sweep_scores_exactly_what_is_new(uri):
    """Values are stored as they are: a category that is added, wherever, moves no other."""
    MongoSearch(functions.metrics_of_kind, {"kind": ["a", "b"], "x": [1, 2]}, db=uri).run()
    wider = {"x": [2, 1, 3], "kind": ["new", "b", "a"]}
    search = MongoSearch(functions.metrics_of_kind, wider, db=uri).run()
    assert (search.summary_.stored, search.summary_.scored) == (4, 5)
    again = MongoSearch(functions.metrics_of_kind, wider, db=uri).run()
    assert again.summary_.scored == 0
    assert again.best_params_ == search.best_params_ == {"kind": "new", "x": 3}


def test_exact_types_are_apart(uri):
    search = MongoSearch(functions.parabola, {"x": [1, 1.0, True, np.float64(1)]}, db=uri).run()
    assert search.summary_.units == 4
    assert [type(x) for x in search.results_["param_x"]] == [int, float, bool, np.float64]


def test_an_edited_function_scores_anew(uri):
    def run(function):
        return MongoSearch(function, {"x": [1, 2]}, db=uri).run().summary_.scored

    assert run(lambda x: x + 1) == 2
    assert run(lambda x: x + 1) == 0
    assert run(lambda x: x + 2) == 2


@pytest.mark.parametrize(
    ("space", "n"),
    [
        (ParameterGrid({"x": [1, 2]}), 2),
        (ParameterSampler({"x": uniform(0, 1)}, 3, random_state=0), 3),
        ([{"x": [1, 2]}, {"x": [5], "y": [1, 2]}], 4),
        (({"x": x} for x in range(3)), 3),
        ({"x": uniform(0, 1)}, 10),
    ],
    ids=["ParameterGrid", "ParameterSampler", "conditional", "generator", "distribution"],
)
def test_spaces(uri, space, n):
    search = MongoSearch(functions.parabola, space, random_state=0, db=uri).run()
    assert len(search.results_) == search.summary_.units == n


@pytest.mark.parametrize("n_jobs", ENGINES)
def test_a_failure_is_kept_and_not_the_best(uri, n_jobs):
    def run(**options):
        return MongoSearch(
            functions.fails_at_two, {"x": [2, 1, 0]}, n_jobs=n_jobs, db=uri, **options
        ).run()

    for stored in (0, 3):
        with pytest.warns(FitFailedWarning, match="1 of 3 candidates failed.*\n.*two is too much"):
            search = run()
        assert search.best_params_ == {"x": 1}
        assert search.results_["state"].tolist() == ["failed", "completed", "completed"]
        assert search.summary_.stored == stored
    with pytest.raises(KeyError) as raised:
        run(error_score="raise")
    assert raised.value.args == ("two is too much",)
    with pytest.warns(FitFailedWarning):
        assert run(retry_failed=True, error_score=-5).results_["score"].tolist() == [-5, 1, 0]


def test_a_unit_that_kills_its_worker_is_given_up(uri):
    def run(**options):
        return MongoSearch(
            functions.crashes_at_two, {"x": [1, 2]}, n_jobs=1 + 1, db=uri, **options
        ).run()

    with pytest.warns(FitFailedWarning, match="killed the process that scored it 3 times"):
        search = run()
    assert search.best_params_ == {"x": 1}
    with pytest.raises(UnitFailed, match="SIGSEGV"):
        run(error_score="raise")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("0.5", "returned '0.5', which is no score"),
        (None, "returned None"),
        ((1, 2, 3), r"returned \(1, 2, 3\)"),
        ({}, "returned {}"),
        ((1, object()), "the extra beside the score holds builtins.object"),
        ((1, "x" * 1_000_001), "at most 1,000,000 are kept"),
    ],
)
def test_a_function_that_returns_no_score(uri, returned, message):
    with (
        pytest.warns(FitFailedWarning, match=message),
        pytest.raises(ValueError, match="None of the 1 candidates"),
    ):
        MongoSearch(lambda x: returned, {"x": [1]}, db=uri).run()


def test_all_of_nan_is_no_best(uri):
    with pytest.raises(ValueError, match="None of the 2 candidates came to a score"):
        MongoSearch(lambda x: float("nan"), {"x": [1, 2]}, db=uri).run()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"function": 3}, TypeError, "function is 3, which cannot be called"),
        ({"direction": "up"}, ValueError, "'maximize' or 'minimize', not 'up'"),
        (
            {"space": {"z": [1], "w": [1]}},
            TypeError,
            r"parabola\(x, y=0\) takes neither .*'w', 'z'",
        ),
        (
            {"space": iter([{"x": 1}, {"z": 1}])},
            ValueError,
            r"list_iterator gave .* takes neither the params \['z'\]",
        ),
        ({"space": []}, ValueError, "no candidates"),
        ({"error_score": "nan"}, ValueError, "error_score is a number or 'raise'"),
        ({"data": {"a b": 1}}, ValueError, "arguments of the function by name, not 'a b'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_stored(uri, arguments, error, message):
    arguments = {"function": functions.parabola, "space": {"x": [1]}, **arguments}
    with pytest.raises(error, match=message):
        MongoSearch(**arguments, db=uri).run()
    assert units(uri) == []


def test_a_function_that_cannot_be_pickled_is_scored_here_only(uri):
    with open(__file__) as file:

        def function(x):
            return x if file.readable() else 0

        with pytest.warns(KeyNotCertain, match="an open file"):
            assert MongoSearch(function, {"x": [1, 2]}, db=uri).run().best_score_ == 2
        with pytest.raises(NotShippable, match="an open file"):
            MongoSearch(function, {"x": [1, 2]}, db=uri, n_jobs=2).run()


def test_credentials_are_not_printed():
    search = MongoSearch(functions.parabola, {"x": [1]}, db="mongodb://ann:secret@host/iris")
    assert "secret" not in repr(vars(search))
    assert str(search.db) == "mongodb://ann:secret@host/iris"


def test_a_search_inside_of_what_is_scored(uri):
    def run(**options):
        data = {"uri": uri, **options}
        return MongoSearch(
            functions.of_a_search_inside, {"top": [2, 5]}, data=data, n_jobs=2, db=uri
        ).run()

    assert run().results_["score"].tolist() == [-4.0, 0.0]
    assert len(units(uri)) == 2  # those inside are not stored
    with (
        pytest.warns(FitFailedWarning, match="a process that scores for a worker has none"),
        pytest.raises(ValueError, match="None of the 2 candidates"),
    ):
        run(time_budget=60)


def test_a_call_that_takes_too_long_is_ended(uri):
    space = {"x": [1], "seconds": [0.0, 600.0]}
    with pytest.warns(FitFailedWarning, match=r"1 of 2 candidates failed.*\n.*FitTimeout"):
        search = MongoSearch(functions.slow, space, fit_timeout=5.0, db=uri).run()
    assert search.best_params_ == {"x": 1, "seconds": 0.0}
    assert search.results_["state"].tolist() == ["completed", "failed"]


def test_a_limit_is_how_and_not_what(uri):
    MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri).run()
    limited = MongoSearch(functions.parabola, {"x": [1, 2]}, fit_timeout=60, db=uri).run()
    assert limited.summary_.stored == 2
