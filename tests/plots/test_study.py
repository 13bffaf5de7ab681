"""Searches as studies of Optuna."""

import subprocess
import sys
import warnings

import numpy as np
import optuna
import pytest
from commands import many_searches
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from scipy.stats import loguniform, randint, uniform
from sklearn.svm import SVC

from optomatic import MongoSearch, MongoSearchCV, attach

X, Y = many_searches.X, many_searches.Y


@pytest.fixture(scope="module")
def drawn(module_uri):
    """Return a fitted search over distributions that Optuna has too."""
    space = {"C": loguniform(1e-3, 1e3), "degree": randint(2, 6), "kernel": ["rbf", "poly"]}
    found = MongoSearchCV(
        SVC(), space, n_iter=12, cv=3, scoring=["accuracy", "f1"], refit="f1", random_state=0,
        db=module_uri, name="drawn",
    )  # fmt: skip
    return found.fit(X, Y)


def steps(x, kind="a", y=0.0):
    if kind == "ill":
        raise ValueError("ill")
    return {"loss": x + y, "seconds": 2 * x}


def test_trials_are_the_candidates(drawn):
    study = drawn.to_study()
    results = drawn.cv_results_
    assert study.study_name == "drawn"
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 12
    assert [trial.params for trial in study.trials] == results["params"]
    np.testing.assert_allclose([t.value for t in study.trials], results["mean_test_f1"])
    assert study.best_trial.number == drawn.best_index_
    means = [trial.user_attrs["mean_test_accuracy"] for trial in study.trials]
    np.testing.assert_allclose(means, results["mean_test_accuracy"])
    assert [trial.user_attrs["candidate"] for trial in study.trials] == list(range(12))
    for trial in study.trials:
        assert trial.datetime_start <= trial.datetime_complete
        assert list(trial.intermediate_values) == [1, 2, 3]
        assert trial.intermediate_values[3] == pytest.approx(trial.value)


def test_another_metric(drawn):
    values = [trial.value for trial in drawn.to_study(metric="accuracy").trials]
    np.testing.assert_allclose(values, drawn.cv_results_["mean_test_accuracy"])


def test_distributions_of_the_space(drawn):
    assert drawn.to_study().trials[0].distributions == {
        "C": FloatDistribution(1e-3, 1e3, log=True),
        "degree": IntDistribution(2, 5),
        "kernel": CategoricalDistribution(["rbf", "poly"]),
    }


def test_distributions_of_the_values(drawn):
    trial = attach("drawn", db=drawn.db).to_study().trials[0]
    values = drawn.cv_results_["param_C"].astype(float)
    assert trial.distributions["C"] == FloatDistribution(values.min(), values.max(), log=True)
    assert set(trial.distributions["kernel"].choices) == {"rbf", "poly"}


def test_a_space_whose_values_optuna_does_not_take(uri):
    space = [
        {"x": [1.0, 2.5], "kind": ["a", None, (1, 2)]},
        {"x": uniform(0, 1).rvs(3, random_state=0).tolist(), "y": [1, True]},
    ]
    found = MongoSearch(steps, space, direction="minimize", db=uri, name="odd").run()
    study = found.to_study()
    assert len(study.trials) == 12
    assert study.direction.name == "MINIMIZE"
    assert study.best_value == found.best_score_
    kinds = study.trials[0].distributions["kind"]
    assert kinds == CategoricalDistribution(["'a'", "None", "(1, 2)"])
    assert study.trials[6].distributions["y"] == CategoricalDistribution(["1", "True"])
    assert all("y" not in trial.params for trial in study.trials[:6])


def test_states_of_trials(filled):
    def states(name):
        return [trial.state.name for trial in attach(name, db=filled).to_study().trials]

    assert states("ill") == ["COMPLETE", "FAIL", "FAIL"]
    assert states("left") == ["WAITING", "WAITING"]
    running = states("running")
    assert "RUNNING" in running
    assert set(running) <= {"RUNNING", "WAITING", "COMPLETE"}
    raced = attach("raced", db=filled).to_study()
    assert {trial.state.name for trial in raced.trials} == {"COMPLETE", "PRUNED"}
    pruned = next(trial for trial in raced.trials if trial.state == TrialState.PRUNED)
    assert list(pruned.intermediate_values) == [1, 2, 3]


def test_halving_is_one_trial_a_candidate(filled):
    halved = attach("halved", db=filled)
    study, frame = halved.to_study(), halved.to_frame()
    assert len(study.trials) == 4
    last = frame[frame["iter"] == frame["iter"].max()]
    complete = study.get_trials(states=[TrialState.COMPLETE])
    assert sorted(trial.value for trial in complete) == sorted(last["score"])
    assert study.best_value == halved.best_score_
    rungs = sorted(frame["n_resources"].unique())
    assert list(study.best_trial.intermediate_values) == rungs


def test_optuna_draws_it(drawn, filled):
    visual = optuna.visualization.matplotlib
    plots = (
        *("plot_optimization_history", "plot_param_importances", "plot_parallel_coordinate"),
        *("plot_slice", "plot_contour", "plot_timeline", "plot_edf", "plot_rank"),
        "plot_intermediate_values",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for study in (drawn.to_study(), attach("running", db=filled).to_study()):
            for plot in plots:
                getattr(visual, plot)(study)


def test_a_study_in_a_file(drawn, tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    drawn.to_study(storage=storage)
    assert len(optuna.load_study(study_name="drawn", storage=storage).trials) == 12
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        drawn.to_study(storage=storage)


def test_the_extra_is_named_where_optuna_is_missing():
    code = """
import sys
sys.modules["optuna"] = None
from optomatic.candidates.samplers import optuna_module
optuna_module()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "optomatic[optuna]"' in found.stderr.splitlines()[-1]
