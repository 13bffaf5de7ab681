"""Scores of earlier searches, told to a generator before its first ask."""

import math

import functions
import numpy as np
import pytest
from pymongo import monitoring
from scipy.stats import loguniform, norm, randint, uniform
from servers import database
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV
from optomatic.filters import NearFilter, PromisingFilter, SeenFilter
from optomatic.generators import AsyncHalving, OptunaGenerator
from optomatic.store.connection import open_store
from optomatic.store.documents import checksum_of

X, Y = load_iris(return_X_y=True)
GRID = {"C": np.logspace(-2, 2, 5).tolist(), "gamma": [0.01, 0.1, 1.0]}


class Listener:
    """Tries one fixed candidate after another; remembers what it heard before."""

    heard = None

    def __init__(self, *candidates, space=None):
        self.candidates = candidates
        if space is not None:
            self.space = space

    def begin(self, directions):
        self.left = list(self.candidates)
        Listener.heard = None

    def ask(self, n):
        given, self.left = self.left[:n], self.left[n:]
        return given

    def tell(self, evaluations):
        assert all(e.number >= 0 for e in evaluations)

    def tell_earlier(self, evaluations):
        assert Listener.heard is None
        Listener.heard = list(evaluations)


def heard_by(uri, candidate, estimator=None, *, data=(X, Y), space=None, **options):
    """Return what a generator hears before its first ask, as (params, score)."""
    options = {"warm_start": True, "cv": 3, "db": uri, "refit": False, **options}
    estimator = SVC() if estimator is None else estimator
    MongoSearchCV(estimator, Listener(candidate, space=space), **options).fit(*data)
    return [(e.params, e.scores["score"]) for e in Listener.heard or ()]


def grid_on(uri, estimator=None, grid=GRID, **options):
    options = {"cv": 3, "db": uri, "refit": False, **options}
    return MongoSearchCV(estimator or SVC(), grid, **options).fit(X, Y)


def pairs_of(search):
    """Return candidates with their mean scores."""
    table = search.cv_results_
    return list(zip(table["params"], table["mean_test_score"], strict=True))


# Optuna

SPACE = {"C": loguniform(1e-2, 1e2), "gamma": loguniform(1e-3, 1e1)}
CANDIDATE = {"C": 7.0, "gamma": 0.5}


def tpe(seed=5):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)


def by_tpe(uri, **options):
    generator = OptunaGenerator(SPACE, tpe())
    options = {"n_iter": 8, "cv": 3, "db": uri, "refit": False, **options}
    return MongoSearchCV(SVC(), generator, **options).fit(X, Y)


def by_optuna_alone(earlier):
    """Return what Optuna proposes by itself, with `earlier` added as trials."""
    import optuna

    study = optuna.create_study(sampler=tpe(), direction="maximize")
    distributions = {
        "C": optuna.distributions.FloatDistribution(1e-2, 1e2, log=True),
        "gamma": optuna.distributions.FloatDistribution(1e-3, 1e1, log=True),
    }
    for params, score in earlier:
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=score)
        )

    def objective(trial):
        candidate = {
            "C": trial.suggest_float("C", 1e-2, 1e2, log=True),
            "gamma": trial.suggest_float("gamma", 1e-3, 1e1, log=True),
        }
        grid = {name: [value] for name, value in candidate.items()}
        return (
            GridSearchCV(SVC(), grid, cv=3, refit=False).fit(X, Y).cv_results_["mean_test_score"][0]
        )

    study.optimize(objective, n_trials=8)
    return [trial.params for trial in study.trials[len(earlier) :]]


def test_tpe_begins_with_what_a_grid_found_and_a_replay_tells_the_same(uri):
    grid = grid_on(uri, name="a grid")
    cold, warm = by_tpe(uri), by_tpe(uri, warm_start="a grid")
    assert cold.cv_results_["params"] == by_optuna_alone([])
    assert warm.cv_results_["params"] == by_optuna_alone(pairs_of(grid))
    assert warm.cv_results_["params"] != cold.cv_results_["params"]
    assert "told of 15 of 15 earlier scores" in str(warm.summary_)
    assert len(warm.cv_results_["params"]) == 8
    grid_on(uri, grid={"C": [33.0], "gamma": [0.02, 0.03]}, name="a grid")
    for options in ({"replay": warm.search_id_}, {"replay": warm.search_id_, "warm_start": True}):
        again = by_tpe(uri, **options)
        assert again.cv_results_["params"] == warm.cv_results_["params"]
        assert again.summary_.scored == 0
    assert by_tpe(uri, warm_start=True).cv_results_["params"] != warm.cv_results_["params"]


def test_candidates_outside_the_space_are_counted_and_not_told(uri):
    space = [
        {"kind": ["a", "b"], "x": norm(0, 1)},
        {"kind": ["long"], "x": [1, 2.0, None, (3, 4)]},
        {"kind": ["a"], "y": uniform(0, 2), "n": randint(1, 4)},
    ]
    inside = [
        {"kind": "a", "x": 0.25},
        {"kind": "long", "x": (3, 4)},
        {"kind": "long", "x": 1},
        {"kind": "a", "y": 1, "n": 3},
    ]
    outside = [
        {"kind": "c", "x": 0.25},  # no such category
        {"kind": "long", "x": 1.0},  # 1 is in the list, and 1.0 is another value
        {"kind": "a", "y": 2.5, "n": 3},
        {"kind": "a", "y": 1.0, "n": 4},
        {"kind": "a", "y": 1.0, "n": 3.0},
        {"kind": "a", "y": 1.0},
    ]
    MongoSearch(number_of, iter([*inside, *outside]), db=uri).run()
    generator = OptunaGenerator(space, tpe())
    search = MongoSearch(number_of, generator, n_iter=3, db=uri, warm_start=True).run()
    assert "told of 4 of 9 earlier scores" in str(search.summary_)


def number_of(params):
    return float(len(str(params)))


def test_a_told_candidate_is_suggested_by_its_trial():
    """Both ways between candidates and trials agree, for every kind of values."""
    import optuna

    from optomatic.candidates.samplers import as_suggested, suggest_candidate

    branches = [
        {"a": uniform(-1, 2), "b": loguniform(1e-3, 1e3), "c": randint(1, 9), "k": ["x", 1, None]},
        {"z": norm(3, 2), "objects": [(1, 2), frozenset({3}), [4]]},
    ]
    study = optuna.create_study(sampler=tpe())
    for _ in range(20):
        trial = study.ask()
        candidate = suggest_candidate(trial, branches)
        params, distributions = as_suggested(candidate, branches)
        assert distributions == trial.distributions
        assert params.keys() == trial.params.keys()
        for name, value in params.items():
            same = trial.params[name]
            assert math.isclose(value, same) if isinstance(same, float) else value == same, name
        study.tell(trial, 1.0)


# Which scores are told


def test_all_searches_are_told_each_candidate_once_the_latest_last(uri):
    first = grid_on(uri, grid={"C": [1.0, 2.0]})
    second = grid_on(uri, grid={"C": [2.0, 4.0]}, n_jobs=2)
    assert heard_by(uri, {"C": 3.0}) == [*pairs_of(first)[:1], *pairs_of(second)]
    assert [e.number for e in Listener.heard] == [-3, -2, -1]
    assert {e.state for e in Listener.heard} == {"completed"}
    assert heard_by(uri, {"C": 3.0}, warm_start=first.search_id_) == pairs_of(first)
    both = [first.search_id_, second.search_id_]
    assert len(heard_by(uri, {"C": 3.0}, warm_start=both)) == 3
    assert heard_by(uri, {"C": 3.0}, warm_start=False) == []


def test_means_are_over_the_splits_of_the_earlier_search(uri):
    search = grid_on(uri, grid={"C": [0.1, 1.0]}, cv=KFold(7, shuffle=True, random_state=1))
    assert heard_by(uri, {"C": 3.0}) == pairs_of(search)


def test_scores_on_other_data_or_by_another_scorer_or_class_are_not_told(uri):
    grid_on(uri, grid={"C": [1.0]}, name="svc")
    told = heard_by(uri, {"C": 3.0}, data=(X[:, :3], Y))
    told += heard_by(uri, {"C": 3.0}, data=(X, Y[::-1]))
    told += heard_by(uri, {"C": 3.0}, scoring="f1_macro")
    told += heard_by(uri, {"n_neighbors": 3}, KNeighborsClassifier())
    assert told == []
    with pytest.raises(ValueError, match="Scores of 'svc' cannot be compared"):
        heard_by(uri, {"n_neighbors": 3}, KNeighborsClassifier(), warm_start="svc")
    with pytest.raises(ValueError, match="no search of the name or id 'svm'"):
        heard_by(uri, {"C": 3.0}, warm_start=["svc", "svm"])


def test_params_outside_the_space_must_equal_those_of_this_search(uri):
    """The very estimator that was scored must come of the candidate, by whatever names."""
    search = grid_on(uri, grid={"C": [1.0], "gamma": [0.1, "scale"], "kernel": ["rbf", "poly"]})
    scores = {tuple(p.values()): score for p, score in pairs_of(search)}
    assert len(heard_by(uri, {"C": 3.0})) == 4  # a generator without a space gets them as they are
    space = {"C": loguniform(1e-2, 1e2)}
    first = heard_by(uri, {"C": 3.0}, SVC(gamma=0.1), space=space)
    assert first == [({"C": 1.0}, scores[1.0, 0.1, "rbf"])]
    second = heard_by(
        uri, {"C": 3.0}, SVC(kernel="poly"), space=space, warm_start=search.search_id_
    )
    assert second == [({"C": 1.0}, scores[1.0, "scale", "poly"])]
    wider = {"C": [1.0], "gamma": [0.1, "scale"], "kernel": ["rbf"], "degree": [3, 4]}
    third = heard_by(uri, CANDIDATE, space=wider, warm_start=search.search_id_)
    assert (
        {"C": 1.0, "gamma": 0.1, "kernel": "rbf", "degree": 3},
        scores[1.0, 0.1, "rbf"],
    ) in third


def test_searches_without_a_task_signature_are_passed_over(uri):
    """They have too many splits for that."""
    search = grid_on(uri, grid={"C": [1.0]}, name="old")
    records = database(uri)["searches"]
    own = records.find_one({"_id": search.search_id_})
    about = (None, own["listing"], own["facts"], own["part_of"], own["more"])
    checksum = checksum_of(own["_id"], own["name"], *about)
    change = {"$set": {"signature": None, "checksum": checksum}}
    records.update_one({"_id": search.search_id_}, change)
    assert heard_by(uri, {"C": 3.0}) == []
    with pytest.raises(ValueError, match="cannot be compared"):
        heard_by(uri, {"C": 3.0}, warm_start="old")


def test_scores_of_early_iterations_of_halving_are_not_told(uri):
    grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    MongoHalvingGridSearchCV(
        SVC(), grid, factor=2, min_resources=36, cv=3, random_state=0, db=uri
    ).fit(X, Y)
    n_searches = database(uri)["searches"].count_documents({})
    assert n_searches == 3
    assert 1 <= len(heard_by(uri, {"C": 3.0})) < 4


def test_candidates_that_hold_objects_are_not_told(uri):
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    pipe = Pipeline([("scale", "passthrough"), ("svc", SVC())])
    grid_on(uri, pipe, {"scale": ["passthrough", StandardScaler()], "svc__C": [1.0]})
    told = heard_by(uri, {"svc__C": 3.0}, pipe)
    assert [params for params, _ in told] == [{"scale": "passthrough", "svc__C": 1.0}]


def test_failed_and_withdrawn_candidates_are_not_told(uri):
    with pytest.warns(match="candidates failed"):
        MongoSearch(functions.fails_at_two, {"x": [1, 2, 3]}, db=uri).run()
    MongoSearch(functions.fails_at_two, Listener({"x": 9}), db=uri, warm_start=True).run()
    assert [e.params["x"] for e in Listener.heard] == [1, 3]


def test_the_cost_is_bounded(uri, monkeypatch):
    from optomatic.driver import warm_start

    for n in range(5):
        MongoSearch(functions.parabola, {"x": range(10 * n, 10 * n + 10)}, db=uri).run()
    monkeypatch.setattr(warm_start, "MOST_TOLD", 25)

    class Commands(monitoring.CommandListener):
        def __init__(self):
            self.finds = 0

        def started(self, event):
            self.finds += event.command_name in ("find", "getMore")

        def succeeded(self, event):
            pass

        def failed(self, event):
            pass

    def finds(**options):
        commands = Commands()
        monitoring.register(commands)
        try:
            MongoSearch(functions.parabola, Listener({"x": 7}), db=uri, **options).run()
        finally:
            monitoring._LISTENERS.command_listeners.remove(commands)
        return commands.finds

    without, with_all = finds(), finds(warm_start=True)
    assert [e.params["x"] for e in Listener.heard] == [*range(26, 50), 7]
    assert with_all - without == 3


# Functions, generators of one's own, filters


def test_scores_of_a_function_are_told_by_its_code_and_data(uri):
    def told(function, data, candidate=None, **options):
        generator = Listener(candidate or {"weight": 5.0})
        options = {"db": uri, "warm_start": True, **options}
        MongoSearch(function, generator, data=data, **options).run()
        return [(e.params, e.scores) for e in Listener.heard or ()]

    data = {"X": X, "y": Y}
    first = MongoSearch(functions.of_data, {"weight": [1.0, 2.0]}, data=data, db=uri).run()
    expected = [
        ({"weight": w}, {"score": s})
        for w, s in zip(first.results_["param_weight"], first.results_["score"], strict=True)
    ]
    assert told(functions.of_data, data) == expected
    assert told(functions.of_data, {"X": X + 1, "y": Y}, warm_start=first.search_id_) == []
    assert told(functions.parabola, {}, {"x": 1}) == []
    with pytest.raises(TypeError, match="warm_start is True for all searches"):
        told(functions.of_data, data, warm_start=3)


def test_earlier_scores_do_not_count_for_limits(uri):
    MongoSearch(functions.parabola, {"x": range(6)}, db=uri).run()
    candidates = [{"x": 20.0 + n} for n in range(6)]
    search = MongoSearch(
        functions.parabola,
        Listener(*candidates),
        db=uri,
        warm_start=True,
        n_iter=4,
        target_score=-1.0,
        n_no_improve=5,
    ).run()
    assert len(Listener.heard) == 6
    assert search.results_["param_x"].tolist() == [20.0, 21.0, 22.0, 23.0]
    assert search.best_params_ == {"x": 20.0}


def test_a_function_of_the_history_sees_earlier_scores(uri):
    MongoSearch(functions.parabola, {"x": [1.0, 2.5]}, db=uri).run()

    def beside_the_best(history):
        if len(history) == 4:
            return None
        return {"x": float(history["param_x"][history["score"].idxmax()]) + 0.25}

    seen = []

    def watched(history):
        seen.append(history)
        return beside_the_best(history)

    search = MongoSearch(functions.parabola, watched, db=uri, warm_start=True).run()
    assert search.results_["param_x"].tolist() == [2.75, 3.0]
    assert "earlier" not in search.results_
    assert seen[-1]["earlier"].tolist() == [True, True, False, False]
    assert seen[-1].index.tolist() == [-2, -1, 0, 1]
    again = MongoSearch(functions.parabola, beside_the_best, db=uri, replay=search.search_id_).run()
    assert again.results_["param_x"].tolist() == [2.75, 3.0]


def test_a_generator_without_tell_earlier_gets_none_and_a_warning(uri):
    class Counting:
        """Takes numbers for places in a list of its own."""

        def __init__(self):
            self.asked = []

        def ask(self, n):
            new = [{"x": float(len(self.asked))}] if len(self.asked) < 3 else []
            self.asked += new
            return new

        def tell(self, evaluations):
            assert all(self.asked[e.number] == e.params for e in evaluations)

    MongoSearch(functions.parabola, {"x": [7.0, 8.0]}, db=uri).run()
    with pytest.warns(match=r"None of 2 earlier .*Counting: it has no tell_earlier"):
        search = MongoSearch(functions.parabola, Counting(), db=uri, warm_start=True).run()
    assert search.results_["param_x"].tolist() == [0.0, 1.0, 2.0]


def test_warm_start_does_not_change_grids(uri):
    first = grid_on(uri)
    again = grid_on(uri, warm_start=True)
    assert (again.summary_.scored, str(again.summary_)[:9]) == (0, "45 units:")
    assert "earlier" not in str(again.summary_)
    assert again.cv_results_["params"] == first.cv_results_["params"]


@pytest.mark.parametrize("options", [{}, {"time_budget": 600.0}, {"filters": [SeenFilter()]}])
def test_an_unknown_search_name_is_reported_for_grids_too(uri, options):
    known = MongoSearch(functions.parabola, {"x": [1]}, db=uri, name="known").run()
    searches = database(uri)["searches"]
    options = {"db": uri, "warm_start": ["known", known.search_id_, "unknown"], **options}
    search = MongoSearch(functions.parabola, {"x": [2]}, **options)
    for go in (
        search.run,
        lambda: grid_on(uri, **options),
        *([] if "filters" in options or "time_budget" in options else [search.submit]),
    ):
        with pytest.raises(ValueError, match="no search of the name or id 'unknown' on this"):
            go()
    assert searches.count_documents({}) == 1
    search.warm_start = options["warm_start"][:2]
    assert search.run().summary_.scored == 1


def test_filters_learn_from_earlier_scores(uri):
    MongoSearch(functions.parabola, {"x": [float(x) for x in range(40)]}, db=uri).run()
    grid = {"x": [3.0, 3.5, 30.0, 31.0, 35.0]}

    def run(filters, **options):
        search = MongoSearch(functions.parabola, grid, db=uri, filters=filters, **options).run()
        return search.results_["param_x"].tolist()

    assert run([PromisingFilter(keep=0.5)]) == grid["x"]
    promising = run([PromisingFilter(keep=0.5)], warm_start=True)
    assert promising[0] == 3.0
    assert max(promising) < 30
    for one in (SeenFilter(), NearFilter(1e-4)):
        assert run([one], warm_start=True) == grid["x"]


def test_asynchronous_halving_lets_the_best_of_earlier_rungs_go_on(uri):
    def asha(*xs):
        return AsyncHalving(
            [{"x": x} for x in xs], resource="r", min_resources=1, max_resources=9, factor=3
        )

    first = MongoSearch(functions.noisy_parabola, asha(0.0, 2.0, 3.5), db=uri).run()
    told = first.results_[["param_x", "param_r"]].to_numpy().tolist()
    assert told == [[0.0, 1], [2.0, 1], [3.5, 1], [3.5, 3]]
    search = MongoSearch(functions.noisy_parabola, asha(9.0, 3.0, 9.5), db=uri, warm_start=True)
    rows = search.run().results_[["param_x", "param_r"]].to_numpy().tolist()
    assert [3.5, 3] not in rows  # it was there before
    assert rows == [[9.0, 1], [3.0, 1], [9.5, 1], [3.0, 3]]
    assert "told of 4 of 4 earlier scores" in str(search.summary_)
    assert not math.isnan(search.best_score_)


def test_told_scores_are_recorded(uri):
    grid = grid_on(uri, grid={"C": [1.0, 2.0]})
    heard_by(uri, {"C": 3.0})
    with open_store(uri) as store:
        (latest, *_) = database(uri)["searches"].find(sort=[("began_at", -1)])
        (kind, rows), *rest = store.searches.events(latest["_id"])
    assert kind == "earlier"
    assert [dict(map(tuple, scores)) for _, scores, _ in rows] == [
        {"score": score} for _, score in pairs_of(grid)
    ]
    assert [kind for kind, _ in rest] == ["ask", "tell", "ask"]


def test_a_race_with_warm_start_is_replayed(uri):
    grid_on(uri, grid={"C": [1.0, 2.0]}, cv=5)
    candidates = [{"C": c} for c in (1e-4, 1.0, 3.0, 1e-5)]

    def race(**options):
        options = {"cv": 5, "db": uri, "refit": False, "racing": True, **options}
        search = MongoSearchCV(SVC(), Listener(*candidates), **options).fit(X, Y)
        return search, [(e.number, e.params) for e in Listener.heard or ()]

    first, heard = race(warm_start=True)
    assert heard == [(-2, {"C": 1.0}), (-1, {"C": 2.0})]
    again, heard_again = race(replay=first.search_id_)
    assert heard_again == heard
    assert again.cv_results_["params"] == first.cv_results_["params"] == candidates
    np.testing.assert_array_equal(
        again.cv_results_["stopped_after"], first.cv_results_["stopped_after"]
    )
