"""Searches over generators end by a limit, by themselves, or with a warning without news."""

from itertools import count, cycle

import functions
import pytest
from scipy.stats import uniform
from servers import database
from sklearn.datasets import load_iris
from sklearn.model_selection import ParameterGrid
from sklearn.svm import SVC

from optomatic import MongoSearch, MongoSearchCV, attach
from optomatic.filters import SeenFilter, ValidFilter
from optomatic.generators import AsyncHalving, OptunaGenerator, QuasiRandom

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)

IRIS = load_iris(return_X_y=True)
TWO = {"C": [1, 2]}
TRIED = r"nothing new: the last [\d,]+ candidates had all been tried before"


def halving(candidates):
    return AsyncHalving(candidates, resource="C", min_resources=1, max_resources=9)


class Naturals:
    """A user's own generator, which says that it never ends."""

    endless = True

    def __init__(self):
        self.numbers = count(1)

    def ask(self, n):
        return [{"C": next(self.numbers)} for _ in range(n)]


class Forever:
    """The same as an iterator, which a search keeps in an object of its own."""

    endless = True

    def __init__(self):
        self.numbers = count(1)

    def __iter__(self):
        return self

    def __next__(self):
        return {"C": next(self.numbers)}


ENDLESS = {
    "OptunaGenerator": lambda: OptunaGenerator({"C": uniform(1, 9)}),
    "OptunaGenerator, few candidates": lambda: OptunaGenerator(TWO),
    "QuasiRandom": lambda: QuasiRandom({"C": uniform(1, 9)}, seed=0),
    "QuasiRandom, few candidates": lambda: QuasiRandom(TWO, seed=0),
    "AsyncHalving": lambda: halving(QuasiRandom({"gamma": uniform(1, 9)}, seed=0)),
    "ask of a user": Naturals,
    "iterator of a user": Forever,
}
ENDING = {
    "AsyncHalving": (4, lambda: halving([{"gamma": value} for value in (1, 2, 3)])),
    "GridSampler": (2, lambda: OptunaGenerator(TWO, optuna.samplers.GridSampler(TWO))),
    "BruteForceSampler": (2, lambda: OptunaGenerator(TWO, optuna.samplers.BruteForceSampler())),
    "ParameterGrid": (2, lambda: ParameterGrid(TWO)),
}
LIMITS = [{"n_iter": 6}, {"time_budget": 2.0}, {"target_score": 0.5}, {"n_no_improve": 3}]


def of_c(C, gamma=0.0):
    return 1.0 - abs(C - 3) / 10


def fit(uri, space, **options):
    search = MongoSearchCV(SVC(), space, cv=2, db=uri, **options).fit(*IRIS)
    return len(search.cv_results_["params"]), str(search.summary_)


def run(uri, space, **options):
    search = MongoSearch(of_c, space, db=uri, **options).run()
    return len(search.results_), str(search.summary_)


KINDS = pytest.mark.parametrize("search", [fit, run])


@KINDS
@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_an_endless_generator_is_refused_without_a_limit(uri, search, name):
    with pytest.raises(
        ValueError,
        match=r"never ends.* Nothing was queued.*n_iter=, time_budget=, target_score= or n_no_imp",
    ):
        search(uri, ENDLESS[name](), filters=[SeenFilter()])
    assert database(uri).list_collection_names() == []


@KINDS
@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))
@pytest.mark.filterwarnings("ignore:.*nothing new:UserWarning")
def test_each_limit_ends_an_endless_generator(uri, search, name, limit):
    try:
        rows, _ = search(uri, ENDLESS[name](), **limit)
    except ValueError as error:  # a full machine may complete nothing in that time
        assert "(time_budget of 2 s is over)" in str(error)  # noqa: PT017
    else:
        assert rows >= 1
        assert rows == limit.get("n_iter", rows)


@KINDS
@pytest.mark.parametrize("name", ENDING)
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_generator_that_ends_by_itself_needs_no_limit(uri, search, name, n_jobs):
    n_candidates, make = ENDING[name]
    rows, summary = search(uri, make(), n_jobs=n_jobs)
    assert rows >= n_candidates  # with workers a sampler repeats what is in flight
    assert ";" not in summary


@KINDS
def test_a_replay_ends_an_endless_generator(uri, search):
    first, _ = search(uri, Naturals(), n_iter=3, name="first")
    assert search(uri, Naturals(), replay="first")[0] == first == 3


def test_an_attached_search_refuses_an_endless_generator(uri):
    run(uri, TWO, name="two")
    with pytest.raises(ValueError, match=r"never ends. Nothing was queued. Give n_iter="):
        attach("two", db=uri).extend(QuasiRandom(TWO))
    with pytest.warns(UserWarning, match=TRIED):
        assert attach("two", db=uri).extend(cycle(ParameterGrid(TWO))) == 0


@KINDS
@pytest.mark.parametrize(
    "make",
    [
        lambda: QuasiRandom(TWO, seed=0),
        lambda: OptunaGenerator(TWO, optuna.samplers.RandomSampler(seed=0)),
        lambda: halving(QuasiRandom({"gamma": [1, 2]}, seed=0)),
        lambda: cycle(ParameterGrid(TWO)),
    ],
    ids=["QuasiRandom", "OptunaGenerator", "AsyncHalving", "cycle"],
)
def test_a_search_without_new_candidates_ends_with_a_warning(uri, search, make):
    with pytest.warns(UserWarning, match=TRIED):
        _, summary = search(uri, make(), target_score=2, time_budget=60)
    assert "candidates had all been tried before" in summary


@KINDS
def test_an_iterable_that_repeats_itself_ends_with_a_warning(uri, search):
    with pytest.warns(UserWarning, match=TRIED):
        rows, _ = search(uri, cycle(ParameterGrid(TWO)))
    assert rows >= 1002


@KINDS
def test_n_iter_counts_repeats(uri, search, recwarn):
    assert search(uri, cycle(ParameterGrid(TWO)), n_iter=1500, n_no_improve=9000)[0] == 1500
    assert search(uri, OptunaGenerator(TWO), n_iter=50)[0] == 50
    assert not [w for w in recwarn if "nothing new" in str(w.message)]


@KINDS
def test_repeats_and_filtered_candidates_end_a_search_together(uri, search):
    with pytest.warns(UserWarning, match="were all left out or had been tried before"):
        search(
            uri,
            cycle(ParameterGrid({"C": [1, 2, 3]})),
            filters=[ValidFilter(lambda c: c["C"] != 2)],
            time_budget=60,
        )


def test_queued_units_are_scored_if_all_others_are_left_out(uri):
    with pytest.warns(UserWarning, match=r"nothing new: the last [\d,]+ candidates were all left"):
        search = MongoSearch(
            functions.slow,
            ({"x": x} for x in count()),
            filters=[ValidFilter(lambda c: c["x"] < 3)],
            n_jobs=2,
            db=uri,
        ).run()
    assert search.results_["param_x"].tolist() == [0, 1, 2]


@KINDS
def test_a_grid_is_asked_to_its_end_despite_filters(uri, search):
    keep = [ValidFilter(lambda c: c["C"] > 1200)]
    rows, summary = search(uri, {"C": range(1, 1203)}, filters=keep)
    assert rows == 2
    assert "1200 of 1202 left out" in summary


@KINDS
def test_a_list_is_asked_to_its_end_despite_repeats(uri, search):
    space = ParameterGrid([TWO, *[{"C": [1]}] * 3000, {"C": [9]}])
    assert search(uri, space, time_budget=60)[0] == 3003


class Steady:
    """Proposes the same until it hears of it."""

    def __init__(self):
        self.next = 0

    def ask(self, n):
        return [{"x": self.next}] if self.next < 4 else []

    def tell(self, evaluations):
        self.next = max([self.next, *(1 + e.params["x"] for e in evaluations)])


@pytest.mark.timeout(120)
def test_a_generator_is_not_asked_again_for_candidates_in_flight(uri):
    search = MongoSearch(functions.slow, Steady(), n_jobs=2, db=uri).run()
    assert sorted(set(search.results_["param_x"])) == [0, 1, 2, 3]
    assert len(search.results_) < 20


class Impatient:
    """Proposes what it knows while it waits for another candidate to end."""

    def __init__(self):
        self.asked, self.told = 0, set()

    def ask(self, n):
        self.asked += 1
        if self.asked <= 2:
            return [{"x": 0, "seconds": 0.0}, {"x": 1, "seconds": 2.0}][self.asked - 1]
        if self.told >= {0, 1, 2}:
            return []
        return {"x": 2 if 1 in self.told else 0, "seconds": 0.0}

    def tell(self, evaluations):
        self.told.update(e.params["x"] for e in evaluations)


@pytest.mark.timeout(120)
def test_candidates_in_flight_delay_the_end(uri, recwarn):
    search = MongoSearch(functions.slow, Impatient(), n_jobs=2, db=uri).run()
    assert set(search.results_["param_x"]) == {0, 1, 2}
    assert not [w for w in recwarn if "nothing new" in str(w.message)]
