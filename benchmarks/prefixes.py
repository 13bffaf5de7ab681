"""Pipelines whose first steps are shared, beside GridSearchCV and dask-ml.

All have two workers, which are started before.  In each round all run in turn, in an order that
rotates, and each search has data of its own, so that nothing is stored or kept yet.  A ratio is
the time of a peer by ours in the same round.  "loky, memory=" is GridSearchCV with a folder as the
pipeline's ``memory``, a new one for each search.  dask-ml runs on threads; on processes it failed
for this work.

text     96 candidates, 16 kinds of first steps: CountVectorizer, TfidfTransformer, SGDClassifier
heavy    the same data, one costly kind of first steps for each 16 settings of the last step
unlike   24 candidates on digits that share nothing: PCA of another size each, and an SVC
cheap    40 candidates on iris, with three steps that take less than a millisecond

``--picture FILE`` draws the time against the number of settings of the last step.

Run it with ``python benchmarks/prefixes.py [--rounds R] [--work NAME ...] [--picture FILE]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from optomatic import MongoSearchCV

JOBS, CV = 2, 3
OURS = "MongoSearchCV"
Case = tuple[Any, dict[str, list[Any]], Any, Any]
_seeds = itertools.count(time.time_ns())


def text(documents: int = 1500, words: int = 80) -> tuple[list[str], np.ndarray]:
    """Return texts of words that are as frequent as those of a language, and two classes."""
    rng = np.random.default_rng(next(_seeds))
    vocabulary = np.array([f"w{n:x}" for n in range(30_000)])
    ranks = np.minimum(rng.zipf(1.3, size=(documents, words)), len(vocabulary)) - 1
    y = rng.integers(0, 2, documents)
    ranks[:, :4] = rng.integers(100, 200, (documents, 4)) + 100 * y[:, None]
    return [" ".join(row) for row in vocabulary[ranks]], y


def text_pipeline() -> Pipeline:
    """Return the pipeline of the text grids."""
    last = SGDClassifier(random_state=0, max_iter=5, tol=None)
    return Pipeline([("count", CountVectorizer()), ("tfidf", TfidfTransformer()), ("clf", last)])


def text_case() -> Case:
    """96 candidates, 16 kinds of first steps."""
    grid = {
        "count__ngram_range": [(1, 1), (1, 2)],
        "count__min_df": [1, 2],
        "count__binary": [False, True],
        "tfidf__use_idf": [True, False],
        "clf__alpha": [10.0**-n for n in range(2, 8)],
    }
    return (text_pipeline(), grid, *text())


def heavy_case(settings: int = 16) -> Case:
    """Two costly kinds of first steps, and many settings of a cheap last one."""
    grid = {
        "count__ngram_range": [(1, 2), (1, 3)],
        "clf__alpha": list(np.geomspace(1e-7, 1e-2, settings)),
    }
    return (text_pipeline(), grid, *text())


def unlike_case() -> Case:
    """Candidates that share nothing."""
    X, y = load_digits(return_X_y=True)
    X = X + np.random.default_rng(next(_seeds)).normal(scale=1e-6, size=X.shape)
    pipeline = Pipeline([("pca", PCA(random_state=0)), ("clf", SVC())])
    return pipeline, {"pca__n_components": list(range(20, 44))}, X, y


def cheap_case() -> Case:
    """Three cheap steps."""
    X, y = load_iris(return_X_y=True)
    X = X + np.random.default_rng(next(_seeds)).normal(scale=1e-9, size=X.shape)
    steps = [("scale", StandardScaler()), ("best", SelectKBest(f_classif, k=3))]
    pipeline = Pipeline([*steps, ("range", MinMaxScaler()), ("clf", SVC())])
    return pipeline, {"clf__C": list(np.geomspace(0.1, 100, 40))}, X, y


CASES: dict[str, Callable[[], Case]] = {
    "text": text_case,
    "heavy": heavy_case,
    "unlike": unlike_case,
    "cheap": cheap_case,
}


def _ours(case: Case, **options: Any) -> Any:
    estimator, grid, X, y = case
    return MongoSearchCV(estimator, grid, cv=CV, refit=False, n_jobs=JOBS, **options).fit(X, y)


def _grid(estimator: Any, grid: Any, X: Any, y: Any) -> Any:
    with parallel_config("loky", n_jobs=JOBS):
        return GridSearchCV(estimator, grid, cv=CV, refit=False).fit(X, y)


def _memory(estimator: Any, grid: Any, X: Any, y: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return _grid(clone(estimator).set_params(memory=folder), grid, X, y)


def _dask(estimator: Any, grid: Any, X: Any, y: Any) -> Any:
    from dask_ml.model_selection import GridSearchCV as DaskSearch

    search = DaskSearch(estimator, grid, cv=CV, refit=False, scheduler="threads", n_jobs=JOBS)
    return search.fit(X, y)


def variants() -> dict[str, Callable[[Case], Any]]:
    """Return what runs here."""
    found: dict[str, Callable[[Case], Any]] = {
        OURS: _ours,
        "reuse_prefixes=False": lambda case: _ours(case, reuse_prefixes=False),
        "GridSearchCV, loky": lambda case: _grid(*case),
        "loky, memory=": lambda case: _memory(*case),
    }
    if importlib.util.find_spec("dask_ml"):
        found["dask-ml, threads"] = lambda case: _dask(*case)
    else:
        print("left out: dask-ml (not installed)", flush=True)
    return found


def seconds_of(run: Callable[[Case], Any], make: Callable[[], Case]) -> float:
    """Return the seconds of one search."""
    case = make()
    began = time.perf_counter()
    run(case)
    return time.perf_counter() - began


def measure(
    runs: dict[str, Callable[[Case], Any]], make: Callable[[], Case], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of each, by round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(runs[name], make))
    return seconds


def show(work: str, seconds: dict[str, list[float]]) -> None:
    """Print a table."""
    print(f"\n{work}: medians of {len(seconds[OURS])} (min to max)\n")
    print("| | seconds | its time / ours |\n| --- | ---: | ---: |")
    for name, own in seconds.items():
        ratios = [one / ours for one, ours in zip(own, seconds[OURS], strict=True)]
        cells = [
            f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (own, ratios)
        ]
        print(f"| {name} | {cells[0]} | {cells[1] if name != OURS else ''} |", flush=True)


def draw(runs: dict[str, Callable[[Case], Any]], path: Path, rounds: int) -> None:
    """Draw the time against the number of settings of the last step."""
    import matplotlib.pyplot as plt

    settings = (1, 2, 4, 8, 16)
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    found = {n: measure(runs, lambda n=n: heavy_case(n), rounds) for n in settings}
    for name in runs:
        medians = [statistics.median(found[n][name]) for n in settings]
        axes.plot(settings, medians, marker="o", label=name)
    axes.set(xlabel="settings of the last step", ylabel="seconds", xscale="log", ylim=(0, None))
    axes.set_xticks(settings, [str(n) for n in settings])
    axes.set_title("Two kinds of first steps, 3 splits, 2 workers")
    axes.legend()
    figure.savefig(path, dpi=150)
    print(f"drawn: {path}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs a variant (default 5)")
    parser.add_argument("--work", nargs="*", choices=CASES, default=list(CASES), metavar="NAME",
                        help="of " + ", ".join(CASES))  # fmt: skip
    parser.add_argument("--picture", type=Path, help="file for the picture")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    runs = variants()
    for run in runs.values():  # starts workers, and imports what they need
        seconds_of(run, cheap_case)
    for name in asked.work:
        show(name, measure(runs, CASES[name], asked.rounds))
    if asked.picture:
        others = {name: run for name, run in runs.items() if name != "reuse_prefixes=False"}
        draw(others, asked.picture, asked.rounds)


if __name__ == "__main__":
    main()
