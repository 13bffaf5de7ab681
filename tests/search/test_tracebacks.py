"""A traceback shows the line of the user and the error, and little of what is between."""

import os
import signal
import threading
import traceback

import functions
import numpy as np
import pytest
from estimators import Sleeper
from sklearn.svm import SVC

import optomatic
from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
PACKAGE = os.path.dirname(optomatic.__file__)


class Refuses(Sleeper):
    """Fails a call below its fit."""

    error = RuntimeError

    def fit(self, X, y):
        return self.below(X, y)

    def below(self, X, y):
        raise self.error("it is so")


class Interrupted(Refuses):
    error = KeyboardInterrupt


def frames_of(error):
    """Return the frames that are printed of an error: of those before it, too."""
    found = []
    while error is not None:
        found += traceback.extract_tb(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def ours_of(frames):
    return [frame for frame in frames if frame.filename.startswith(PACKAGE)]


def fit(uri, grid=None, X=X, estimator=None, **options):
    return MongoSearchCV(estimator or SVC(), grid or {"C": [1]}, db=uri, **options).fit(X, Y)


MISTAKES = {
    "a param that is none": lambda uri: fit(uri, {"nosuch": [1]}),
    "a param that is none, workers": lambda uri: fit(uri, {"nosuch": [1]}, n_jobs=2),
    "no list": lambda uri: fit(uri, {"C": 1}),
    "n_jobs": lambda uri: fit(uri, n_jobs="x"),
    "cv": lambda uri: fit(uri, cv=1),
    "too many splits": lambda uri: fit(uri, cv=11),
    "no fit": lambda uri: fit(uri, estimator=object()),
    "NaN": lambda uri: fit(uri, X=np.full_like(X, np.nan), error_score="raise"),
    "memory_limit": lambda uri: fit(uri, memory_limit="much"),
    "time_budget": lambda uri: fit(uri, time_budget="long"),
    "a filter": lambda uri: fit(uri, filters=[lambda candidates, history: 1 / 0]),
    "a generator": lambda uri: fit(uri, ({"nosuch": n} for n in (1, 2)), time_budget=9),
    "an address": lambda uri: fit("nowhere"),
    "halving": lambda uri: MongoHalvingGridSearchCV(SVC(), {"D": [1]}, db=uri).fit(X, Y),
    "a function": lambda uri: MongoSearch(functions.parabola, {"x": ["a"]}, db=uri).run(),
    "submit": lambda uri: MongoSearch(functions.parabola, {"x": 1}, db=uri).submit(),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_two_frames_of_ours_at_most(uri, mistake):
    with pytest.raises((ValueError, TypeError)) as caught:
        mistake(uri)
    frames = frames_of(caught.value)
    assert len(ours_of(frames)) <= 2
    assert not any("/pymongo/" in frame.filename for frame in frames)
    assert "<lambda>" in [frame.name for frame in frames if frame.filename == __file__]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_all_frames_of_the_estimator_stay(uri, n_jobs):
    for _ in ("scored", "stored"):
        with pytest.raises(RuntimeError, match="it is so") as caught:
            fit(uri, {"value": [1]}, estimator=Refuses(), n_jobs=n_jobs, error_score="raise")
        assert "in below" in "".join(traceback.format_exception(caught.value))
        assert len(ours_of(frames_of(caught.value))) <= 2


def test_ctrl_c_in_a_fit(uri):
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(uri, {"value": [1]}, estimator=Interrupted())
    frames = frames_of(caught.value)
    assert [frame.name for frame in frames[-2:]] == ["fit", "below"]
    assert len(ours_of(frames)) == 1


def test_ctrl_c_while_workers_are_waited_for(uri):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            fit(uri, n_jobs=0)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    frames = frames_of(caught.value)
    assert len(ours_of(frames)) <= 2
    assert len(frames) <= 6


def test_a_defect_keeps_every_frame(uri, monkeypatch):
    monkeypatch.delattr("optomatic.driver.request.new_record")
    with pytest.raises(NameError, match="new_record") as caught:
        fit(uri)
    names = [frame.name for frame in ours_of(frames_of(caught.value))]
    assert names[0] == "fit"
    assert names[-1] == "record"
    assert len(names) > 3
