"""Limits of time and memory: held from outside, a failure of the unit, charged to nobody."""

import os
import time

import numpy as np
import psutil
import pytest
from estimators import Glutton, Misbehaver
from sklearn.exceptions import FitFailedWarning
from waiting import wait_for

from optomatic import MongoSearchCV
from optomatic.errors import FitTimeout, MemoryLimit
from optomatic.worker import limits

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


@pytest.fixture
def searched(uri):
    """Search over values of an estimator that misbehaves at 13."""

    def search(estimator, values=(1, 13, 2), **options):
        options = {"cv": 2, "db": uri, "refit": False, "error_score": -1.0, **options}
        return MongoSearchCV(estimator, {"value": list(values)}, **options)

    return search


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_unit_that_takes_too_long_has_failed(queue, searched, n_jobs):
    search = searched(Misbehaver(how="hang"), n_jobs=n_jobs, fit_timeout=2.0)
    with pytest.warns(FitFailedWarning, match="not done after 2 s, the fit_timeout"):
        search.fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, -1, 2])
    assert queue.states() == {"failed": 2, "completed": 4}
    assert set(queue.field("losses")) == {0}
    assert queue.field("runs") == [1] * 6
    for unit in queue.units.find({"state": "failed"}):
        assert (unit["error"]["stage"], unit["error"]["type"]) == (
            "limit",
            "optomatic.errors.FitTimeout",
        )


def test_a_limit_is_held_while_the_interpreter_is_held_in_c(queue, searched):
    search = searched(Misbehaver(how="hold"), fit_timeout=2.0)
    with pytest.warns(FitFailedWarning):
        search.fit(X, Y)
    assert queue.states() == {"failed": 2, "completed": 4}


@pytest.mark.parametrize("how", ["slowly", "at_once", "elsewhere"])
def test_a_unit_that_takes_too_much_memory_has_failed(queue, searched, how):
    """Bit by bit, in one allocation that the kernel refuses, and in a process that it starts."""
    search = searched(Glutton(how=how), memory_limit="400MB", fit_timeout=100)
    with pytest.warns(FitFailedWarning, match="more than 400 MB of memory"):
        search.fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, -1, 2])
    assert queue.states() == {"failed": 2, "completed": 4}
    assert set(queue.field("losses")) == {0}
    # What came next in the same process may just have begun when that was ended.
    assert queue.field("runs", state="failed") == [1] * 2


def test_mapped_but_untouched_memory_does_not_count(queue, searched):
    """A unit gets all that the limit says, though the kernel counts more as its process's."""
    search = searched(Glutton(how="within"), memory_limit="300MB").fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, 13, 2])
    assert queue.states() == {"completed": 6}


def test_the_limit_can_be_raised_as_an_error(searched):
    hang = Misbehaver(how="hang")
    with pytest.raises(FitTimeout, match="a larger fit_timeout"):
        searched(hang, fit_timeout=2.0, error_score="raise").fit(X, Y)
    greedy = Glutton(how="slowly")
    with pytest.raises(MemoryLimit, match="a larger memory_limit"):
        searched(greedy, memory_limit=400_000_000, error_score="raise").fit(X, Y)


def test_limits_are_terms_not_keys(searched):
    """A score serves a search with limits; a failure by a limit serves only under that limit."""
    slow, both = Misbehaver(how="sleep_a_little"), {"n_jobs": 2}  # the slow ones at once
    with pytest.warns(FitFailedWarning):
        first = searched(slow, fit_timeout=2.0, **both).fit(X, Y)
    assert (first.summary_.scored, first.summary_.failed) == (6, 2)
    with pytest.warns(FitFailedWarning):
        same = searched(slow, fit_timeout=2.0).fit(X, Y)
    assert (same.summary_.stored, same.summary_.failed) == (6, 2)
    larger = searched(slow, fit_timeout=100, **both).fit(X, Y)
    assert (larger.summary_.stored, larger.summary_.scored, larger.summary_.failed) == (4, 2, 0)
    without = searched(slow).fit(X, Y)
    assert without.summary_.stored == 6


def test_a_child_without_limits_takes_what_it_wants_again(searched):
    """The kernel's bound is that of the unit, not of the process, which stays."""
    searched(Glutton(), memory_limit="400MB", n_jobs=1).fit(X, Y)
    search = searched(Glutton(how="at_once"), n_jobs=2).fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], [1, 13, 2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"fit_timeout": 0},
        {"fit_timeout": "soon"},
        {"memory_limit": "much"},
        {"memory_limit": -1},
        {"inner_max_num_threads": 0},
    ],
)
def test_wrong_limits_are_refused(searched, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        searched(Misbehaver(), **wrong).fit(X, Y)


def test_memory_is_that_of_the_whole_tree_and_files_do_not_count(tmp_path):
    pid = os.fork()
    if pid == 0:  # a process of its own, that starts another
        kept = np.ones(10_000_000)  # 80 MB
        if os.fork() == 0:
            kept += 1
        np.save(tmp_path / f"{os.getpid()}.npy", kept[:1])
        time.sleep(1000)
    try:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        tree = psutil.Process(pid).children(recursive=True)
        assert len(tree) == 1
        assert limits.anonymous_memory(pid) > 160_000_000
        assert limits._by_psutil(pid) == limits._started_by(pid) == [tree[0].pid]
    finally:
        for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
            process.kill()
        os.waitpid(pid, 0)
    assert limits.anonymous_memory(pid) == 0


class Inside:
    """A callback that is handed down into the fits."""

    max_propagation_depth = None

    def setup(self, *_, **__):
        pass

    on_fit_task_begin = on_fit_task_end = teardown = setup


def test_limits_are_not_given_up_for_callbacks_that_need_this_process(queue, searched):
    pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")
    from sklearn.linear_model import LogisticRegression

    search = MongoSearchCV(LogisticRegression(), {"C": [1.0]}, db=queue.uri, fit_timeout=9)
    with pytest.raises(ValueError, match=r"Callbacks \(Inside\).*cannot be held"):
        search.set_callbacks(Inside()).fit(X, Y)
    assert queue.states() == {}
