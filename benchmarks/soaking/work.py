"""The searches and joblib calls of the soak.  Each is told by a number, so it can be made again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from optomatic import MongoSearchCV

SPLITS, CALLS = 5, 16
#: Candidates of a search, and the seconds that its units take: a few long ones, or many short
#: ones, which are queued in batches.
SIZES = ((12, 0.03), (300, 0.002))
MOST = max(candidates for candidates, _ in SIZES)
#: Seconds that a call takes.
SECONDS = 0.03
METRICS = ("r2", "neg_mean_squared_error")
FIXED: dict[str, Any] = {
    "cv": SPLITS,
    "scoring": METRICS,
    "refit": False,
    "return_train_score": True,
}

_draw = np.random.default_rng(0)
X = _draw.normal(size=(80, 5))
Y = X @ np.arange(5.0) + _draw.normal(size=80)


class Slow(Ridge):
    """Ridge regression that takes its time."""

    def __init__(self, alpha: float = 1.0, seconds: float = 0.0) -> None:
        super().__init__(alpha=alpha)
        self.seconds = seconds

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Slow:
        """Wait, then fit."""
        time.sleep(self.seconds)
        return super().fit(X, y, sample_weight)


@dataclass(frozen=True)
class Task:
    """What client `slot` does as its `number`-th: a search, or calls of joblib.

    Attributes
    ----------
    kind : {"here", "local", "standalone", "calls"}
        Who scores: n_jobs is None, 2 or 0; or that it makes calls.
    block : int
        Which candidates it has.  Each fourth search is the same for all clients, and some are
        the last one again.
    """

    slot: int
    number: int
    kind: str
    block: int

    @property
    def size(self) -> tuple[int, float]:
        """How many candidates a search has, and how long each unit takes."""
        return SIZES[self.block % len(SIZES)]

    def grid(self) -> dict[str, list[float]]:
        """Return the candidates of a search; no two blocks have one in common."""
        first = self.block * MOST
        return {"alpha": [1 + n / 7 for n in range(first, first + self.size[0])]}


def task(seed: int, clients: int, slot: int, number: int) -> Task:
    """Return what client `slot` of `clients` does as its `number`-th."""
    rng = random.Random(f"{seed} {slot} {number}")
    kind = rng.choice(("here", "local", "standalone", "standalone", "calls"))
    block = number - 1 if number and rng.random() < 0.15 else number
    return Task(slot, number, kind, block * clients + (slot if block % 4 else 0))


def search(task: Task) -> dict[str, Any]:
    """Return the table of a search."""
    workers = {"here": None, "local": 2, "standalone": 0}[task.kind]
    made = MongoSearchCV(Slow(seconds=task.size[1]), task.grid(), n_jobs=workers, **FIXED)
    return made.fit(X, Y).cv_results_


def differences(task: Task, table: dict[str, Any]) -> list[str]:
    """Return the columns that differ from those of GridSearchCV, times apart; NaN always does."""
    right = GridSearchCV(Slow(), task.grid(), **FIXED).fit(X, Y).cv_results_
    timeless = [name for name in right if not name.endswith("_time")]
    extra = [name for name in table if name not in right]
    return extra + [n for n in timeless if n not in table or not np.array_equal(table[n], right[n])]


def scores(task: Task, table: dict[str, Any]) -> list[list[Any]]:
    """Return [alpha, split, score by metric] of each unit."""
    return [
        [alpha, split, {m: float(table[f"split{split}_test_{m}"][row]) for m in METRICS}]
        for row, alpha in enumerate(task.grid()["alpha"])
        for split in range(SPLITS)
    ]


def calls_are_right(task: Task) -> bool:
    """Make calls of joblib, every other time with a large array; tell if they returned well."""
    array = np.arange(200_000 if task.number % 2 else 10, dtype=float) + task.number
    with parallel_config(backend="optomatic"):
        got = Parallel(n_jobs=4)(delayed(_call)(n, array, SECONDS) for n in range(CALLS))
    return bool(got == [_call(n, array, 0.0) for n in range(CALLS)])


def _call(number: int, array: Any, seconds: float) -> tuple[int, float]:
    time.sleep(seconds)
    return number, float(array[number % 10] * number + array.sum())
