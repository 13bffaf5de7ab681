"""OptunaGenerator proposes the candidates of Optuna itself."""

from importlib.util import find_spec

import functions
import pytest
from scipy.stats import loguniform, norm, randint, uniform

from optomatic import MongoSearch
from optomatic.generators import OptunaGenerator

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = {
    "a": uniform(-1, 2),
    "b": loguniform(1e-3, 1e3),
    "c": randint(1, 9),
    "kind": ["x", "yy", "zzz"],
}


def function(a, b, c, kind):
    if c == 5:
        raise ValueError("five is right out")
    return -((a - 0.3) ** 2) - abs(c - 4) + len(kind) / (1 + b)


def objective(trial):
    return function(
        trial.suggest_float("a", -1, 1),
        trial.suggest_float("b", 1e-3, 1e3, log=True),
        trial.suggest_int("c", 1, 8),
        trial.suggest_categorical("kind", ["x", "yy", "zzz"]),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: optuna.samplers.TPESampler(seed=3),
        lambda: optuna.samplers.TPESampler(seed=3, multivariate=True, constant_liar=True),
        lambda: optuna.samplers.RandomSampler(seed=3),
        lambda: optuna.samplers.CmaEsSampler(seed=3),
        pytest.param(
            lambda: optuna.samplers.GPSampler(seed=3, deterministic_objective=True),
            marks=pytest.mark.skipif(
                find_spec("torch") is None,
                reason="Optuna's GP needs torch, which is too large for every run of the tests",
            ),
        ),
    ],
    ids=["TPE", "multivariate TPE", "random", "CMA-ES", "GP"],
)
@pytest.mark.filterwarnings("ignore")
def test_candidates_equal_those_of_optuna(uri, make):
    study = optuna.create_study(sampler=make(), direction="maximize")
    study.optimize(objective, n_trials=24, catch=ValueError)
    search = MongoSearch(function, OptunaGenerator(SPACE, make()), n_iter=24, db=uri).run()
    params = search.results_.filter(like="param_")
    ours = [
        {name.removeprefix("param_"): value for name, value in row.items()}
        for row in params.to_dict("records")
    ]
    assert ours == [trial.params for trial in study.trials]
    assert search.best_score_ == study.best_value


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_optuna_in_conditional_spaces_with_other_distributions(uri, n_jobs):
    space = [
        {"kind": ["a", "b"], "x": norm(0, 1)},
        {"kind": ["long"], "x": [1, 2.0, None, (3, 4)]},
    ]
    generator = OptunaGenerator(space, optuna.samplers.TPESampler(seed=0))
    search = MongoSearch(
        functions.of_kind, generator, n_iter=20, n_jobs=n_jobs, db=uri, direction="minimize"
    ).run()
    rows = list(zip(search.results_["param_kind"], search.results_["param_x"], strict=True))
    assert {kind for kind, _ in rows} == {"a", "b", "long"}
    assert all(type(x) is float for kind, x in rows if kind != "long")
    assert all(x in (1, 2.0, None, (3, 4)) for kind, x in rows if kind == "long")


def test_several_metrics_with_nsga2(uri):
    make = lambda: optuna.samplers.NSGAIISampler(seed=1, population_size=4)  # noqa: E731
    study = optuna.create_study(sampler=make(), directions=["minimize", "maximize"])

    def both(trial):
        x = trial.suggest_float("x", 0, 4)
        return functions.two_goals(x).values()

    study.optimize(both, n_trials=12)
    search = MongoSearch(
        functions.two_goals,
        OptunaGenerator({"x": uniform(0, 4)}, make()),
        direction={"cost": "minimize", "gain": "maximize"},
        n_iter=12,
        db=uri,
    ).run()
    assert search.results_["param_x"].tolist() == [trial.params["x"] for trial in study.trials]
    assert search.best_score_ == search.results_["score_cost"].min()
