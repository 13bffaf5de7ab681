"""One mutation, whoever reads it next, and the verdict on what came of it."""

from __future__ import annotations

import math
import random
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mutating.arena import COLLECTIONS, Arena, Heard, Task, raw_in
from mutating.mutator import Mutation, draw
from mutating.work import Weigher
from pymongo.errors import PyMongoError
from sklearn.model_selection import GridSearchCV

from optomatic import MongoSearchCV
from optomatic.errors import OptomaticError
from optomatic.records import SCHEMA

#: Seconds after which what waits hangs: after 10 s it says why, or mends what it can.
LIMIT = 14.0
#: Seconds that a search has to end once the document is put right.
AFTERWARDS = 15.0
#: The same of what nothing rings an idle worker for: it looks once a minute.
AFTERWARDS_OF = {"queues": 75.0}
#: ValueErrors that are documented.
_TOLD = re.compile(
    r"There is no search with the name or id|cannot be extended from here|cannot be compared with "
    r"those of this|is not in the database|All the \d+ fits failed|no candidate came to a score|"
    r"nothing to begin with"
)
_SERVER = "could not do what it was asked"
SPLITS = 2


@dataclass
class Report:
    """What one trial has shown."""

    scenario: str
    collection: str
    again: str
    mutation: str = "nothing"
    outcomes: set[str] = field(default_factory=set)
    faults: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        shown = "\n".join(f"{kind}: {text}" for kind, text in self.faults)
        return f"{self.again}: {self.scenario}: {self.mutation}\n{shown}"


#: Scores by whatever tells them apart.
Scores = Mapping[Any, float]


class Trial:
    """What scenarios are made of."""

    def __init__(self, arena: Arena, heard: Heard, rng: random.Random, report: Report) -> None:
        self.arena = arena
        self.heard = heard
        self.rng = rng
        self.report = report
        self.collection = report.collection
        self.number = next(arena.number)
        self.gate = arena.folder / f"gate{self.number}"
        self.mutation: Mutation | None = None
        self._beside: Task | None = None
        self._beside_truth: Scores = {}

    # -- what is searched --------------------------------------------------------------------

    def data(self, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return rows that no other trial has."""
        return np.arange(16.0).reshape(8, 2) + self.number + offset, np.arange(8) % 2

    def search(self, values: list[float], *, gated: bool = False, **options: Any) -> MongoSearchCV:
        estimator = Weigher(gate=str(self.gate) if gated else None, mark=self.number)
        options = {"cv": SPLITS, "refit": False, "db": self.arena.uri, "name": "mutated", **options}
        return MongoSearchCV(estimator, {"value": values}, **options)

    def fit(self, values: list[float], **options: Any) -> MongoSearchCV:
        return self.search(values, **options).fit(*self.data())

    def truth(self, values: list[float], **options: Any) -> Scores:
        """Return the scores of scikit-learn, of a gate that is open."""
        self.gate.touch()
        grid = GridSearchCV(Weigher(), {"value": values}, cv=SPLITS, refit=False, **options)
        return scores_of(grid.fit(*self.data()))

    # -- what is done to it --------------------------------------------------------------------

    def mutate(self, **query: Any) -> None:
        """Change a document of the collection: of the search, and as `query` says if one is."""
        self.arena.share(queues={}, environments={})
        collection = self.arena.database[self.collection]
        found = list(collection.find(query)) or list(collection.find())
        found.sort(key=lambda d: (d.get("params_text", ""), str(d.get("spec")), str(d["_id"])))
        search = self.arena.database["searches"].find_one({"name": "mutated"}, {"_id": 1})
        for _ in range(20):
            self.mutation = draw(self.rng, self.collection, found, search and search["_id"])
            self.report.mutation = str(self.mutation)
            try:
                self.mutation.apply(self.arena.database)
            except PyMongoError:  # what the server does not take is nobody's to read
                self.mutation.undo(self.arena.database)
            else:
                break

    def start_beside(self) -> None:
        """Begin a search of other data that only the worker scores, once."""
        if self._beside is None:
            options = {"cv": SPLITS, "refit": False, "db": self.arena.uri, "n_jobs": 0}
            grid, data = {"value": [7.0, 8.0]}, self.data(1000.0)
            search = MongoSearchCV(Weigher(), grid, name="beside", **options)
            self._beside = Task(lambda: scores_of(search.fit(*data)))
            plain = GridSearchCV(Weigher(), grid, cv=SPLITS, refit=False)
            self._beside_truth = scores_of(plain.fit(*data))

    # -- what comes of it ----------------------------------------------------------------------

    def expect(self, truth: Scores, function: Callable[[], Scores], *, missing: int = 0) -> Task:
        """Have `function` return the scores of `truth`, in time, but for so many."""
        task = Task(function)
        self.settle(task, truth, missing=missing)
        return task

    def settle(self, task: Task, truth: Scores, *, missing: int = 0) -> None:
        """Await what `task` does, and judge it."""
        self.start_beside()
        if not self._ends(task):
            self._hang(task)
        if task.is_alive() or task.interrupted:
            return
        if task.error is not None:
            self._judge_error(task.error)
        elif self._judge(task.value, truth, missing):
            self.report.outcomes.add("served")

    def _ends(self, task: Task) -> bool:
        """Wait for the end of `task`, or for a warning that it waits, or for too long."""
        end = time.monotonic() + LIMIT
        while not task.ends_in(0.1):
            self._look_at_worker()
            if time.monotonic() > end or (self._is_of_another_schema() and self._said()):
                return task.ends_in(1.0)
        return True

    def _look_at_worker(self) -> None:
        if self.arena.worker.poll() is None:
            return
        self.fault("raw", "the worker has ended")
        if self.mutation is not None:  # else the next one would end, too
            self.mutation.undo(self.arena.database)
        self.arena.start_worker()

    def _is_of_another_schema(self) -> bool:
        m = self.mutation
        if m is None or m.collection != "units":
            return False
        return any(type(d.get("v")) is not int or d["v"] != SCHEMA for d in m.after)

    def _put_right(self, mutation: Mutation) -> None:
        mutation.undo(self.arena.database)
        units = self.arena.database["units"]
        queued = units.find_one_and_delete({"_id": mutation.document, "state": "queued"})
        if queued is not None:  # idle workers are rung for what is new
            units.insert_one(queued)

    def _is_left(self) -> bool:
        """Tell whether there is no client that could store again what workers need."""
        needed = ("queues", "bundles", "chunks")
        return self.report.scenario.startswith("attach") and self.collection in needed

    def _said(self) -> list[str]:
        """Return what was said to whoever waits."""
        return self.heard.texts(UserWarning)

    def _hang(self, task: Task) -> None:
        assert self.mutation is not None
        said = self._said()
        self._put_right(self.mutation)
        went_on = task.ends_in(AFTERWARDS_OF.get(self.collection, AFTERWARDS))
        if said and went_on and (self._is_of_another_schema() or self._is_left()):
            self.report.outcomes.add("warned")
            return
        why = f"it had warned: {said}" if said else "without a word"
        then = "went on once put right" if went_on else "did not go on even then"
        self.fault("hang", f"longer than {LIMIT:.0f} s, {why}; {then}")
        if not went_on:
            self._end(task)

    def _end(self, task: Task) -> None:
        """End what does not end, but for the search beside it."""
        database, others = self.arena.database, {"name": {"$ne": "beside"}}
        withdrawn = {"$set": {"state": "cancelled", "withdrawn": True}}
        database["searches"].update_many(others, withdrawn)
        beside = [d["_id"] for d in database["searches"].find({"name": "beside"})]
        pages = database["search_units"].find({"search": {"$in": beside}})
        kept = [unit_id for page in pages for unit_id in page["ids"]]
        database["units"].delete_many({"_id": {"$nin": kept}})
        if not task.ends_in(5.0):
            task.interrupt()
            task.ends_in(10.0)

    def _judge_error(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        told = isinstance(error, OptomaticError) and _SERVER not in text
        if told or (isinstance(error, ValueError) and _TOLD.search(text)):
            self.report.outcomes.add(f"told {type(error).__name__}")
            return
        self.fault("raw", "".join(traceback.format_exception(error)[-12:]))

    def _judge(self, got: Scores, truth: Scores, missing: int) -> bool:
        got = {**dict.fromkeys(truth, math.nan), **got}
        wrong = {k: v for k, v in got.items() if k not in truth or not _equal(v, truth[k])}
        left_out = [key for key, value in wrong.items() if math.isnan(value)]
        if len(left_out) <= missing:
            wrong = {k: v for k, v in wrong.items() if k not in left_out}
        if not wrong:
            return True
        shown = ", ".join(f"{k}: {v} for {truth.get(k)}" for k, v in wrong.items())
        if self._is_well_formed(wrong):
            self.report.outcomes.add("other number")
        else:
            self.fault("wrong", shown)
        return False

    def _is_well_formed(self, wrong: Scores) -> bool:
        """Tell whether `wrong` are what the document says, which is as good as what it said."""
        m = self.mutation
        if m is None or m.collection != "units" or not m.place:
            return False
        if m.place[0] == "params_text":
            return isinstance(m.value, str)
        if m.place == ("spec", "split"):
            return type(m.value) is int and 0 <= m.value < SPLITS
        number = type(m.value) in (int, float)
        return m.place[0] == "result" and number and len(wrong) <= 2

    def fault(self, kind: str, text: str) -> None:
        self.report.faults.append((kind, text))

    def close(self) -> None:
        """Look how all others are."""
        database = self.arena.database
        self.gate.touch()
        self._look_at_worker()
        if self._beside is not None:
            if not self._ends(self._beside):
                self.fault("beside", "the search beside it hangs")
                if self.mutation is not None:
                    self.mutation.undo(self.arena.database)
                if not self._beside.ends_in(AFTERWARDS):
                    self._end(self._beside)
            elif self._beside.error is not None:
                shown = "".join(traceback.format_exception(self._beside.error)[-12:])
                self.fault("beside", f"the search beside it raised {shown}")
            elif not _all_equal(self._beside.value, self._beside_truth):
                self.fault("beside", f"wrong scores: {self._beside.value}")
        for raw in [*self.heard.raw, *raw_in(self.arena.said_by_worker())]:
            self.fault("raw", raw)
        self._look_at_worker()
        if any(database[name].find_one({"state": "invalid"}) for name in COLLECTIONS):
            self.report.outcomes.add("set aside")


def scores_of(search: Any) -> dict[tuple[str, str], float]:
    """Return the scores of each candidate and split."""
    table = search.cv_results_
    names = [name for name in table if re.match(r"split\d+_", name)]
    return {
        (str(params), name): float(table[name][n])
        for n, params in enumerate(table["params"])
        for name in names
    }


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _all_equal(got: Scores, truth: Scores) -> bool:
    return got.keys() == truth.keys() and all(_equal(got[key], truth[key]) for key in truth)
