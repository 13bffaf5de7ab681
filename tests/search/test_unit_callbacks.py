"""scikit-learn's callbacks hear of every unit, whoever scores it."""

import threading

import numpy as np
import pytest
from estimators import Gated
from pymongo import MongoClient
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from optomatic import MongoSearchCV
from optomatic.errors import KeyNotCertain

callback = pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")

X, Y = load_iris(return_X_y=True)
GRID = {"C": [0.1, 1, 10, 1]}  # 12 pairs of (candidate, split), 9 units


class Recorder:
    """Keeps what it hears, in order."""

    def __init__(self):
        self.heard = []

    def setup(self, estimator, context):
        self._hear("setup", estimator, context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self._hear("begin", estimator, context, X, y, metadata)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        self._hear("end", estimator, context, X, y, metadata)

    def teardown(self, estimator, context):
        self._hear("teardown", estimator, context)

    def _hear(self, *what):
        self.heard.append((*what, threading.current_thread()))

    def tasks(self, event):
        """The paths of tasks, the units among them as numbers."""
        return [
            (record[2].task_name, record[2].task_id) for record in self.heard if record[0] == event
        ]


class Inside(Recorder):
    """Is handed down into the fits."""

    max_propagation_depth = None


def fit(uri, estimator=None, grid=None, callbacks=(), search=MongoSearchCV, **options):
    if search is MongoSearchCV:
        options["db"] = uri
    made = search(estimator or SVC(), grid or GRID, **{"cv": 3, **options})
    return made.set_callbacks(*callbacks).fit(X, Y)


def by_task(recorder, event):
    return {
        (record[2].task_name, record[2].task_id): record
        for record in recorder.heard
        if record[0] == event
    }


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("refit", [True, False])
def test_all_that_gridsearchcv_tells(uri, n_jobs, refit):
    """Fresh, then stored: the same tasks, the same rows, in this thread, about this search."""
    weight = np.linspace(1, 2, len(Y))
    theirs = Recorder()
    GridSearchCV(SVC(), GRID, cv=3, refit=refit).set_callbacks(theirs).fit(
        X, Y, sample_weight=weight
    )
    for _ in range(2):
        ours = Recorder()
        search = MongoSearchCV(SVC(), GRID, cv=3, refit=refit, n_jobs=n_jobs, db=uri)
        search.set_callbacks(ours).fit(X, Y, sample_weight=weight)
        for event in ("setup", "begin", "end", "teardown"):
            assert sorted(ours.tasks(event)) == sorted(theirs.tasks(event))
        assert {record[1] for record in ours.heard} == {search}
        assert {record[-1] for record in ours.heard} == {threading.current_thread()}
        for event in ("begin", "end"):
            expected = by_task(theirs, event)
            for task, record in by_task(ours, event).items():
                np.testing.assert_equal(record[3:6], expected[task][3:6], err_msg=str(task))


def test_begin_comes_before_end_and_parents_around_children(uri):
    recorder = Recorder()
    fit(uri, callbacks=[recorder], n_jobs=2)
    names = [(record[0], record[2].task_name) for record in recorder.heard]
    assert names[:3] == [("setup", "fit"), ("begin", "fit"), ("begin", "search")]
    assert names[-4:] == [
        ("begin", "refit-with-best-params"),
        ("end", "refit-with-best-params"),
        ("end", "fit"),
        ("teardown", "fit"),
    ]
    units = [record for record in recorder.heard if "candidate" in record[2].task_name]
    for begin, end in zip(units[::2], units[1::2], strict=True):
        assert (begin[0], end[0]) == ("begin", "end")
        assert begin[2] is end[2]
        assert begin[2].parent.task_name == "search"
        assert begin[2].parent.max_subtasks == 12
        assert begin[2].parent.parent.task_name == "fit"


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_progress_bar_ends_at_100_percent(uri, n_jobs, monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    for stored in (False, True):
        search = fit(uri, callbacks=[callback.ProgressBar()], n_jobs=n_jobs)
        assert bool(search.summary_.stored) is stored
        drawn = capsys.readouterr().out
        for line in ("MongoSearchCV - fit", "MongoSearchCV - search #0"):
            rows = [row for row in drawn.splitlines() if row.strip().startswith(line)]
            assert rows, drawn
            assert "100%" in rows[-1], drawn


def proposed():
    yield from ({"C": c} for c in (1, 10, 1e-6))


def but_one(candidates, history):
    return [candidate["C"] != 1 for candidate in candidates]


OPEN = {  # what a search takes, and how many units it has, if that is known
    "generator": ({"target_score": 2}, 9),
    "filters": ({"filters": [but_one]}, 6),
    "racing": ({"racing": True, "cv": 5}, None),
    "budget": ({"time_budget": 600}, 9),
    "early end": ({"n_no_improve": 1}, None),
}


@pytest.mark.filterwarnings("ignore:The estimator SVC does not support callbacks")
@pytest.mark.parametrize("kind", OPEN)
def test_units_are_told_of_where_candidates_come_about_meanwhile(uri, kind, monkeypatch, capsys):
    """Fresh, then stored: of each once, in this thread, up to 100 %."""
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    options, units = OPEN[kind]
    for stored in (False, True):
        space = proposed() if kind == "generator" else {"C": [1, 10, 1e-6]}
        recorder, n_jobs = Recorder(), None if stored else 2
        shown = [callback.ProgressBar(), recorder]
        summary = fit(uri, None, space, shown, n_jobs=n_jobs, **options).summary_
        assert summary.scored == (0 if stored else summary.units)
        assert summary.units == (units or summary.units)
        assert bool(summary.raced) == (kind == "racing")
        for event in ("begin", "end"):
            told = [task for task in recorder.tasks(event) if task[0].startswith("candidate")]
            assert len(told) == len(set(told)) == summary.units
        assert {record[-1] for record in recorder.heard} == {threading.current_thread()}
        drawn = capsys.readouterr().out.splitlines()
        for line in ("MongoSearchCV - fit", "MongoSearchCV - search #0"):
            assert "100%" in [row for row in drawn if row.strip().startswith(line)][-1]


def test_a_unit_that_others_score_is_told_of_before_the_search_is_over(uri, tmp_path):
    """Another fit scores the units, the last of them only once some were told of here."""
    gate = tmp_path / "gate"
    space = Gated(gate=str(gate)), {"value": list(range(8))}
    others = threading.Thread(target=MongoSearchCV(*space, cv=2, db=uri).fit, args=(X, Y))
    to_do = []

    class Watcher(Recorder):
        def on_fit_task_end(self, estimator, context):
            if "candidate" in context.task_name:
                to_do.append(units.count_documents({"state": {"$ne": "completed"}}))
                gate.touch()

    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]
        others.start()
        try:
            waiting = MongoSearchCV(*space, cv=2, db=uri, n_jobs=0, refit=False)
            waiting.set_callbacks(Watcher()).fit(X, Y)
        finally:
            gate.touch()
            others.join()
    assert waiting.summary_.scored + waiting.summary_.stored == len(to_do) == 16
    assert to_do[0] >= 8
    assert to_do[-1] == 0


class StopsEarly(Inside):
    """Ends an iterative fit after `after` iterations."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_fit_task_end(self, estimator, context):
        self.heard.append(("end", estimator, context, None))
        return "iteration" in context.task_name and context.task_id + 1 >= self.after

    def on_fit_task_begin(self, estimator, context):
        self.heard.append(("begin", estimator, context, None))


if hasattr(callback, "CallbackSupportMixin"):
    from sklearn.base import BaseEstimator, RegressorMixin

    class Steps(callback.CallbackSupportMixin, RegressorMixin, BaseEstimator):
        """Fits in iterations, and predicts how many there were."""

        def __init__(self, max_iter=5, fail=False):
            self.max_iter = max_iter
            self.fail = fail

        @callback.with_callbacks
        def fit(self, X, y):
            context = self._init_callback_context(max_subtasks=self.max_iter)
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
            for n in range(self.max_iter):
                step = context.subcontext(task_name=f"iteration {n}")
                step.call_on_fit_task_begin(estimator=self, X=X, y=y)
                self.n_iter_ = n + 1
                if step.call_on_fit_task_end(
                    estimator=self, X=X, y=y, reconstruction_attributes={"n_iter_": n + 1}
                ):
                    break
            context.call_on_fit_task_end(estimator=self, X=X, y=y)
            return self

        def predict(self, X):
            return np.full(len(X), float(self.n_iter_))


STEPS = {"max_iter": [2, 4]}
MEAN = {"scoring": lambda estimator, X, y: float(np.mean(estimator.predict(X)))}


def test_a_callback_inside_of_the_fits_hears_of_them(uri):
    theirs, ours = Inside(), Inside()
    fit(uri, Steps(), STEPS, [theirs], GridSearchCV, **MEAN)
    fit(uri, Steps(), STEPS, [ours], **MEAN)
    assert ours.tasks("begin") == theirs.tasks("begin")
    assert ours.tasks("end") == theirs.tasks("end")


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_callback_that_stops_fits_has_scores_of_its_own(uri, n_jobs):
    def scores(*callbacks, **options):
        search = fit(uri, Steps(), STEPS, callbacks, **MEAN, **options)
        return list(search.cv_results_["mean_test_score"]), search.summary_.stored

    assert scores() == ([2, 4], 0)
    if n_jobs is None:
        assert scores(StopsEarly(1)) == ([1, 1], 0)
    else:
        with pytest.warns(UserWarning, match="StopsEarly.*scored in it") as said:
            assert scores(StopsEarly(1), n_jobs=2) == ([1, 1], 0)
        assert said[0].filename == __file__
    assert scores(StopsEarly(3)) == ([2, 3], 0)
    assert scores(StopsEarly(1)) == ([1, 1], 6)  # an equal callback, an equal score
    assert scores() == ([2, 4], 6)


class Unsendable:
    """A value that stays in its process; as an answer it is a no."""

    def __bool__(self):
        return False

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("it stays here")


def test_units_scored_here_for_callbacks_need_no_pickling(uri):
    """n_jobs=2 asks for workers, but the callbacks leave none to send anything to."""
    with (
        pytest.warns(UserWarning, match="Inside.*scored in it"),
        pytest.warns(KeyNotCertain, match="cannot be pickled"),
    ):
        search = fit(uri, Steps(fail=Unsendable()), STEPS, [Inside()], n_jobs=2, **MEAN)
    assert list(search.cv_results_["mean_test_score"]) == [2, 4]


def test_a_scoring_monitor_of_the_estimator_logs_as_in_gridsearchcv(uri):
    logs = []
    for search in (GridSearchCV, MongoSearchCV):
        monitor = callback.ScoringMonitor(scoring="neg_mean_absolute_error")
        made = Steps().set_callbacks(monitor)
        fit(uri, made, STEPS, search=search, **MEAN)
        logs.append(monitor.get_logs().data_as_pandas.drop(columns="estimator_name"))
    assert len(logs[0]) == 2 * 3 + 4 * 3 + 4
    assert logs[0].equals(logs[1])


class Raises(Recorder):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def _hear(self, event, estimator, context, *more):
        super()._hear(event, estimator, context, *more)
        if (event, context.task_name, context.task_id) == self.at:
            raise ValueError("the callback's own mistake")


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("event", ["begin", "end"])
def test_an_error_of_a_callback_ends_the_search_and_fails_no_unit(uri, event, n_jobs):
    raises = Raises((event, "candidate-split-evaluation", 4))
    with pytest.raises(ValueError, match="the callback's own mistake"):
        fit(uri, callbacks=[raises], n_jobs=n_jobs)
    assert raises.heard[-1][0] == "teardown"
    again = fit(uri, n_jobs=n_jobs).summary_
    assert again.failed == 0
    assert again.stored + again.scored == again.units == 9


def test_units_that_fail_are_told_of(uri):
    theirs, ours, stored = Recorder(), Recorder(), Recorder()
    grid = {"C": [1, -1]}
    for recorder, search in (
        (theirs, GridSearchCV),
        (ours, MongoSearchCV),
        (stored, MongoSearchCV),
    ):
        with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
            fit(uri, grid=grid, callbacks=[recorder], search=search)
        assert sorted(recorder.tasks("end")) == sorted(theirs.tasks("end"))


def test_a_model_that_takes_callbacks_in_local_workers(uri):
    pytest.importorskip("rich")
    model = LogisticRegression(max_iter=1000)
    search = fit(uri, model, callbacks=[callback.ProgressBar()], n_jobs=2)
    assert search.summary_.scored == 9
    assert search.summary_.workers == 2  # both processes: they were not scored in this one


def test_a_scoring_monitor_of_the_search_has_nothing_to_log(uri):
    """As in GridSearchCV: a search shows no fitted estimator on the way."""
    for search, n_jobs in ((GridSearchCV, None), (MongoSearchCV, None), (MongoSearchCV, 2)):
        monitor = callback.ScoringMonitor(scoring="accuracy")
        fit(uri, callbacks=[monitor], search=search, n_jobs=n_jobs)
        with pytest.raises(ValueError, match="No logs to retrieve"):
            monitor.get_logs()


@pytest.mark.parametrize("depth", [0, 1, 2, None])
def test_callbacks_of_a_pipeline_around_the_search(uri, depth):
    """They come to the search from above; from some depth on they do not reach the fits."""
    heard = []
    space = {"estimator": Steps(), "param_grid": STEPS, "cv": 3, **MEAN}
    for made in (GridSearchCV(**space), MongoSearchCV(db=uri, **space)):
        recorder = Inside()
        recorder.max_propagation_depth = depth
        make_pipeline(StandardScaler(), made).set_callbacks(recorder).fit(X, Y)
        heard.append(sorted((event[0], *path(event[2])) for event in recorder.heard))
    assert heard[0] == heard[1]


def path(context):
    """The names and numbers of a task and all above it, without those of the class."""
    above = () if context.parent is None else path(context.parent)
    return (*above, f"{context.task_name} {context.task_id}")


def test_without_callbacks_nothing_is_made_for_them(uri, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("made without need")

    monkeypatch.setattr("optomatic.search.fit_request.UnitCallbacks", fail)
    assert fit(uri, n_jobs=2).summary_.scored == 9
