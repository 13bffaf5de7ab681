"""``verbose=1`` begins with how much there is to do, as far as that is known."""

import functions
import pytest
from scipy.stats import uniform
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.svm import SVC

from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV
from optomatic.filters import ValidFilter
from optomatic.generators import AsyncHalving, QuasiRandom

IRIS = load_iris(return_X_y=True)
GRID = {"C": [1, 2, 3, 4]}
KEEP = [ValidFilter(lambda c: c["C"] != 2)]


class Endless:
    endless = True

    def __init__(self):
        self.asked = 0

    def ask(self, n):
        self.asked += n
        return [{"C": C} for C in range(1 + self.asked - n, 1 + self.asked)]


class Ending(Endless):
    endless = False


def halving():
    candidates = [{"gamma": value} for value in (1, 2, 3)]
    return AsyncHalving(candidates, resource="C", min_resources=1, max_resources=9)


def lines_of(capsys, fit):
    capsys.readouterr()
    fit()
    return capsys.readouterr().out.splitlines()


def test_where_all_counts_are_known_it_is_that_of_gridsearchcv(uri, capsys):
    theirs = GridSearchCV(SVC(), GRID, cv=3, verbose=1)
    ours = MongoSearchCV(SVC(), Endless(), n_iter=4, cv=3, verbose=1, db=uri)
    (line,) = lines_of(capsys, lambda: theirs.fit(*IRIS))
    assert line == "Fitting 3 folds for each of 4 candidates, totalling 12 fits"
    found = lines_of(capsys, lambda: ours.fit(*IRIS))
    assert found == [line, str(ours.summary_)]


UP_TO = "Fitting 3 folds for each of up to 4 candidates, totalling up to 12 fits"
PROPOSED = "Fitting 3 folds for each of the candidates that the generator proposes"


@pytest.mark.parametrize(
    ("space", "options", "line"),
    [
        (GRID, {"filters": KEEP}, UP_TO),
        (GRID, {"racing": True}, UP_TO),
        (GRID, {"target_score": 2.0}, UP_TO),
        (Endless(), {"n_iter": 4, "filters": KEEP}, UP_TO),
        (Ending(), {"n_iter": 4}, UP_TO),
        (iter([{"C": 1}, {"C": 2}]), {"n_iter": 4, "time_budget": 600}, UP_TO),
        (iter([{"C": 1}, {"C": 2}]), {"time_budget": 600}, PROPOSED),
        (halving(), {}, PROPOSED),
        (Endless(), {"n_no_improve": 2}, PROPOSED),
    ],
    ids=[
        *("filters", "racing", "target", "n_iter and filters", "n_iter of what may end"),
        *("n_iter of an iterator", "iterator", "asynchronous halving", "endless"),
    ],
)
@pytest.mark.filterwarnings("ignore:racing stops nobody")
def test_where_they_are_not_it_says_so(uri, capsys, space, options, line):
    search = MongoSearchCV(SVC(), space, cv=3, verbose=1, db=uri, **options)
    found = lines_of(capsys, lambda: search.fit(*IRIS))
    assert found == [line, str(search.summary_)]
    search.set_params(verbose=0)
    assert lines_of(capsys, lambda: search.fit(*IRIS)) == []


def test_a_replay_asks_for_what_was_asked_for_then(uri, capsys):
    MongoSearchCV(SVC(), Endless(), n_iter=4, cv=3, db=uri, name="first").fit(*IRIS)
    search = MongoSearchCV(SVC(), Endless(), n_iter=9, cv=3, db=uri, replay="first", verbose=1)
    assert lines_of(capsys, lambda: search.fit(*IRIS))[0] == PROPOSED


def test_successive_halving_says_what_scikit_learns_says(uri, capsys):
    options = {"cv": 3, "verbose": 1, "random_state": 0}
    theirs = HalvingGridSearchCV(SVC(), GRID, **options)
    ours = MongoHalvingGridSearchCV(SVC(), GRID, db=uri, **options)
    expected = lines_of(capsys, lambda: theirs.fit(*IRIS))
    found = lines_of(capsys, lambda: ours.fit(*IRIS))
    assert any("Fitting 3 folds for each of 4 candidates" in line for line in expected)
    assert [line for line in found if " units: " not in line] == expected


@pytest.mark.parametrize(
    ("space", "options", "line"),
    [
        ({"x": [1, 2, 3, 4]}, {}, "Scoring 4 candidates"),
        ({"x": [1, 2, 3, 4]}, {"n_no_improve": 9}, "Scoring up to 4 candidates"),
        (QuasiRandom({"x": uniform(0, 6)}, seed=0), {"n_iter": 4}, "Scoring 4 candidates"),
        (iter([{"x": 1}]), {}, "Scoring the candidates that the generator proposes"),
    ],
    ids=["grid", "budget", "n_iter", "iterator"],
)
def test_a_search_of_a_function_has_no_folds(uri, capsys, space, options, line):
    search = MongoSearch(functions.parabola, space, verbose=1, db=uri, **options)
    assert lines_of(capsys, search.run) == [line, str(search.summary_)]


def test_a_search_that_raises_for_a_failed_unit_prints_no_more(uri, capsys):
    with pytest.warns(FitFailedWarning):
        MongoSearchCV(SVC(), {"C": [1, -1]}, cv=2, db=uri).fit(*IRIS)
    again = MongoSearchCV(
        SVC(), {"C": [1, -1]}, cv=2, db=uri, error_score="raise", verbose=2, name="raises"
    )

    def fit():
        with pytest.raises(ValueError, match="C"):
            again.fit(*IRIS)

    assert lines_of(capsys, fit) == ["Fitting 2 folds for each of 2 candidates, totalling 4 fits"]


def test_calls_in_this_process_have_lines_as_those_of_workers(uri, capsys):
    def run():
        MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri, verbose=2).run()

    for _ in range(2):  # scored, and stored
        header, first, second, _ = lines_of(capsys, run)
        assert header == "Scoring 2 candidates"
        assert first.startswith("[1/2] END x=1; score=-4.000 total time=")
        assert second.startswith("[2/2] END x=2; score=-1.000 total time=")
