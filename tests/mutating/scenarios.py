"""Who reads a document that was changed, and when it was."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from mutating.arena import COLLECTIONS, Arena, Task, listening
from mutating.trial import Report, Scores, Trial, scores_of
from mutating.work import Weigher, total, weigh
from waiting import wait_for

from optomatic import MongoSearch, MongoSearchCV, attach

VALUES = [1.0, 2.0, 3.0]
TRAIN = {"return_train_score": True}

# -- a fit of what is stored ---------------------------------------------------------------


def _stored(n_jobs: int | None) -> Callable[[Trial], None]:
    def scenario(trial: Trial) -> None:
        """Fit again what was completed."""
        options = TRAIN if trial.rng.random() < 0.5 else {}
        truth = trial.truth(VALUES, **options)
        trial.fit(VALUES, **options)
        _forget_parts(trial)
        trial.mutate()
        again = trial.search(VALUES, n_jobs=n_jobs, **options)
        task = trial.expect(truth, lambda: scores_of(again.fit(*trial.data())))
        if task.error is None and not task.is_alive() and again.summary_.scored:
            trial.report.outcomes.add("scored again")

    return scenario


def _failed(n_jobs: int | None) -> Callable[[Trial], None]:
    def scenario(trial: Trial) -> None:
        """Fit again what failed, or killed its workers."""
        values, units = [1.0, 13.0], trial.arena.database["units"]
        truth = trial.truth(values)
        trial.fit(values)
        if trial.rng.random() < 0.5:
            dead = {"state": "dead", "losses": 3, "runs": 3, "lost_on": ["host"] * 3}
            entry = {"attempt": 1, "worker": "w", "at": None, "why": "SIGSEGV"}
            unset = {"result": None, "error": None, "completed_by": None, "completed_at": None}
            change = {**dead, **unset, "history": [entry] * 3}
            units.update_one({"state": "failed"}, {"$set": change})
        _forget_parts(trial)
        trial.mutate(state={"$in": ["failed", "dead"]})
        again = trial.search(values, n_jobs=n_jobs)
        trial.expect(truth, lambda: scores_of(again.fit(*trial.data())))

    return scenario


def _forget_parts(trial: Trial) -> None:
    """With `n_jobs=None` nothing was uploaded, so that something is there to change."""
    if trial.collection in ("bundles", "chunks"):
        trial.fit([4.0, 5.0], n_jobs=0, name="other")
        trial.arena.database["units"].delete_one({"state": "completed"})


# -- a fit that goes on --------------------------------------------------------------------


def _queued(n_jobs: int | None) -> Callable[[Trial], None]:
    def scenario(trial: Trial) -> None:
        """Change what waits for the worker, or for this process, before anybody has claimed it."""
        truth, units = trial.truth(VALUES), trial.arena.database["units"]
        with trial.arena.paused():
            task = Task(lambda: scores_of(trial.fit(VALUES, n_jobs=n_jobs)))
            wait_for(lambda: units.count_documents({"state": "queued"}) == 6, seconds=60)
            trial.mutate()
        trial.settle(task, truth)

    return scenario


def _running(n_jobs: int | None) -> Callable[[Trial], None]:
    def scenario(trial: Trial) -> None:
        """Change what is being scored, or waits behind that."""
        truth, units = trial.truth(VALUES), trial.arena.database["units"]
        trial.gate.unlink()
        task = Task(lambda: scores_of(trial.fit(VALUES, n_jobs=n_jobs, gated=True)))
        wait_for(lambda: units.count_documents({"state": "running", "started": True}), seconds=60)
        trial.mutate(**({"state": "running"} if trial.collection == "units" else {}))
        time.sleep(trial.rng.choice((0.0, 0.0, 0.5, 1.0)))
        trial.gate.touch()
        trial.settle(task, truth)

    return scenario


# -- attach --------------------------------------------------------------------------------


def _values_of(frame: Any) -> Scores:
    if "param_value" not in frame or "score" not in frame:
        return {}
    pairs = zip(frame["param_value"], frame["score"], strict=True)
    return {str(value): float(score) for value, score in pairs}


def _attached(trial: Trial, **options: Any) -> tuple[MongoSearch, Scores]:
    base = float(trial.number)
    data = {"base": base, "gate": str(trial.gate)}
    search = MongoSearch(
        weigh, {"value": VALUES}, data=data, db=trial.arena.uri, name="mutated", **options
    )
    return search, {str(value): weigh(value, base) for value in VALUES}


def _may_miss(trial: Trial) -> int:
    """Return how many scores nobody need find who did not make the search."""
    return 1 if trial.collection in ("units", "workers", "environments") else 10


def attach_reads(trial: Trial) -> None:
    search, truth = _attached(trial)
    trial.gate.touch()
    search.run()
    trial.mutate()

    def read() -> Scores:
        seen = attach("mutated", db=trial.arena.uri)
        seen.record()
        seen.counts()
        repr(seen)
        return _values_of(seen.to_frame())

    trial.expect(truth, read, missing=_may_miss(trial))


def attach_waits(trial: Trial) -> None:
    """Wait for, or watch, a search that was left to the worker."""
    search, truth = _attached(trial)
    with trial.arena.paused():
        name = search.submit()
        trial.gate.touch()
        trial.mutate()

    def wait() -> Scores:
        seen = attach(name, db=trial.arena.uri)
        if trial.rng.random() < 0.5:
            assert seen.wait()
        else:
            assert list(seen.watch())
        return _values_of(seen.to_frame())

    trial.expect(truth, wait, missing=_may_miss(trial))


def attach_times_out(trial: Trial) -> None:
    """`wait(timeout)` and `frame` of a search that waits."""
    search, truth = _attached(trial)
    with trial.arena.paused():
        name = search.submit()
        trial.mutate()

    def wait() -> Scores:
        seen = attach(name, db=trial.arena.uri)
        seen.wait(timeout=0.5)
        seen.counts()
        return _values_of(seen.to_frame())

    trial.gate.touch()
    trial.expect(truth, wait, missing=len(truth))


def attach_extends(trial: Trial) -> None:
    search, truth = _attached(trial)
    trial.gate.touch()
    search.run()
    more = {str(value): weigh(value, float(trial.number)) for value in (4.0, 5.0)}
    trial.mutate()

    def extend() -> Scores:
        seen = attach("mutated", db=trial.arena.uri)
        space = {"value": [4.0, 5.0], "base": [float(trial.number)], "gate": [str(trial.gate)]}
        seen.extend({"value": space["value"]})
        assert seen.wait(timeout=60)
        return _values_of(seen.to_frame())

    trial.expect({**truth, **more}, extend, missing=_may_miss(trial))


def attach_cancels(trial: Trial) -> None:
    search, truth = _attached(trial, n_jobs=0)
    with trial.arena.paused():
        task = Task(lambda: search.run() and truth)
        units = trial.arena.database["units"]
        wait_for(lambda: units.count_documents({"state": "queued"}) == 3, seconds=60)
        trial.mutate()
        trial.expect({}, lambda: attach("mutated", db=trial.arena.uri).cancel() or {})
    trial.gate.touch()
    trial.settle(task, truth)


# -- warm start ----------------------------------------------------------------------------


class Hearing:
    """Proposes what it was given; remembers what it was told of."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def begin(self, directions: Any) -> None:
        self.left = [{"value": value} for value in self.values]

    def ask(self, n: int) -> list[dict[str, float]]:
        given, self.left = self.left[:n], self.left[n:]
        return given

    def tell_earlier(self, evaluations: Any) -> None:
        HEARD[:] = [(str(e.params["value"]), e.scores["score"]) for e in evaluations]


#: A search asks a copy of its generator.
HEARD: list[tuple[str, float]] = []


def warm_start(trial: Trial) -> None:
    """Tell a generator of scores of which one was changed."""
    truth = trial.truth([3.0, 4.0])
    stored = trial.truth(VALUES)
    trial.fit(VALUES)
    trial.mutate()
    HEARD.clear()

    def learn() -> Scores:
        options = {"cv": 2, "refit": False, "db": trial.arena.uri, "name": "warm"}
        search = MongoSearchCV(Weigher(), Hearing(3.0, 4.0), warm_start=True, **options)
        search.fit(*trial.data())
        return {**scores_of(search), **_heard_wrongly(stored)}

    trial.expect(truth, learn)


def _heard_wrongly(stored: Scores) -> Scores:
    """Return what was told that is no mean of some splits' scores."""
    wrong = {}
    for value, score in HEARD:
        splits = [s for (params, _), s in stored.items() if params == str({"value": float(value)})]
        if score not in (*splits, float(np.mean(splits)) if splits else None):
            wrong[f"told of {value}"] = score
    return wrong


# -- calls of joblib -----------------------------------------------------------------------


def _call(trial: Trial, *, waits: bool) -> Task:
    array = np.arange(float(300_000)) + trial.number
    gate = str(trial.gate) if waits else None

    def call() -> Scores:
        with parallel_config(backend="optomatic", db=trial.arena.uri):
            tasks = (delayed(total)(n, array, gate) for n in range(4))
            # The number of processes is asked for while the worker may be stopped.
            values = Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")(tasks)
        return dict(enumerate(values))

    return Task(call)


def _called(trial: Trial) -> Scores:
    array = np.arange(float(300_000)) + trial.number
    return {n: total(n, array) for n in range(4)}


def calls_queued(trial: Trial) -> None:
    """Change calls that nobody has claimed."""
    units = trial.arena.database["units"]
    with trial.arena.paused():
        task = _call(trial, waits=False)
        wait_for(lambda: units.count_documents({"kind": "call"}) == 4, seconds=60)
        trial.mutate()
    trial.settle(task, _called(trial))


def calls_running(trial: Trial) -> None:
    """Change calls that are being made."""
    units = trial.arena.database["units"]
    task = _call(trial, waits=True)
    wait_for(lambda: units.count_documents({"state": "running", "started": True}), seconds=60)
    trial.mutate()
    trial.gate.touch()
    trial.settle(task, _called(trial))


# -- all of them ---------------------------------------------------------------------------

SCENARIOS: dict[str, Callable[[Trial], None]] = {
    "stored, fit here": _stored(None),
    "queued, worker": _queued(0),
    "attach reads": attach_reads,
    "running, worker": _running(0),
    "stored, fit by local workers": _stored(2),
    "calls queued": calls_queued,
    "failed, fit here": _failed(None),
    "attach waits": attach_waits,
    "running, fit here": _running(None),
    "warm start": warm_start,
    "stored, left to workers": _stored(0),
    "attach extends": attach_extends,
    "running, local workers": _running(2),
    "calls running": calls_running,
    "failed, left to workers": _failed(0),
    "attach times out": attach_times_out,
    "attach cancels": attach_cancels,
}
#: Most of what is stored are units, and each has some forty fields.
_WEIGHTS = [8 if name == "units" else 1 for name in COLLECTIONS]


def run(arena: Arena, seed: int, number: int) -> Report:
    """Run the mutation of this number; the same again for the same seed and number."""
    rng = random.Random(f"{seed}:{number}")
    name = scenario_of(number)
    report = Report(name, rng.choices(COLLECTIONS, _WEIGHTS)[0], f"seed {seed}, number {number}")
    with listening() as heard:
        trial = Trial(arena, heard, rng, report)
        try:
            SCENARIOS[name](trial)
        finally:
            trial.close()
            arena.clean()
    return report


def scenario_of(number: int) -> str:
    """Return the scenario of a mutation."""
    return list(SCENARIOS)[number % len(SCENARIOS)]
