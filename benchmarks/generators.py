"""How many fits each way of searching needs to find what a random search of 500 candidates finds.

Four real data sets, each with a model whose scores depend on its params.  The target of a seed
is the best mean score over five splits that a random search of 500 candidates comes to, with a
seed of its own, so that no method has seen it.  Each method then searches, one fit after the
other, until a candidate *fitted on all training rows of all splits* scores as well (or better), or
until it has had as many fits as those 500 candidates; a seed that did not get there counts as more
than that in the median, and is not in the range.  "Near" is a score that is worse by 0.1 % of the
target at most.

A fit is a (candidate, split) that the method asked for, on whatever part of the rows, whether its
score was stored already or not (methods share scores here, which is what makes this quick; values
of params are on grids, so that they meet).  "Rows" counts a fit on a third of the rows as a third.

random   independent draws, none twice
TPE      ``OptunaGenerator``, the default sampler of Optuna, asked 500 times (it repeats candidates)
halving  ``MongoHalvingRandomSearchCV``, 27 candidates on a ninth of the rows, the best 9 on a
         third, the best 3 on all; again and again with other draws, looked at when one is over
ASHA     ``AsyncHalving`` over the same parts of the rows
racing   the draws of random, with ``racing=True``
filter   the draws of random, half of them left out by ``PromisingFilter``

The second table is the wall time of a fixed number of fits with two local workers, each run on
an empty database, methods side by side in each round: what asking costs beside scoring.

Run it with ``python benchmarks/generators.py [--seeds N] [--rounds R] [--data NAME ...]``.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import math
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from pymongo import MongoClient
from scipy.stats import randint
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, ParameterSampler, StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from threadpoolctl import threadpool_limits

from optomatic import MongoHalvingRandomSearchCV, MongoSearchCV
from optomatic.embedded.server import serve
from optomatic.filters import PromisingFilter
from optomatic.generators import AsyncHalving, OptunaGenerator

N_SPLITS = 5
#: Candidates of the random search that sets the target; of its fits each method has as many.
CANDIDATES = 500
#: Means over the same scores may differ in their last bits.
ROUNDING = 1e-9
NEAR = 1e-3

# What is searched


def _has(method: str) -> Callable[[Any], bool]:
    return lambda self: hasattr(self.estimator, method)


class Partly(BaseEstimator):
    """Fits its estimator on so many ninths of the rows: the resource of asynchronous halving."""

    def __init__(self, estimator: Any, ninths: int = 9) -> None:
        self.estimator = estimator
        self.ninths = ninths

    def fit(self, X, y):
        """Fit on all rows, or on a part with the same shares of classes."""
        if self.ninths < 9:
            shares = y if is_classifier(self.estimator) else None
            X, _, y, _ = train_test_split(
                X, y, train_size=self.ninths / 9, stratify=shares, random_state=0
            )
        self.estimator_ = clone(self.estimator).fit(X, y)
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        return self.estimator_.predict(X)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X):
        return self.estimator_.predict_proba(X)

    @available_if(_has("decision_function"))
    def decision_function(self, X):
        return self.estimator_.decision_function(X)

    def __sklearn_tags__(self):
        return get_tags(self.estimator)


class Levels:
    """A distribution over ordered values, each as likely."""

    def __init__(self, values: Any) -> None:
        self.values = [float(value) for value in values]

    def rvs(self, size: Any = None, random_state: Any = None) -> float:
        return self.values[check_random_state(random_state).randint(len(self.values))]

    def ppf(self, u: float) -> float:
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class Problem:
    """A data set, a model, its space, and the score."""

    name: str
    data: tuple[Any, Any]
    model: Any
    space: dict[str, Any]
    scoring: str

    @property
    def estimator(self) -> Partly:
        return Partly(self.model)

    @property
    def cv(self) -> Any:
        kind = StratifiedKFold if is_classifier(self.model) else KFold
        return kind(N_SPLITS, shuffle=True, random_state=0)

    def of(self, **options: Any) -> dict[str, Any]:
        return {"cv": self.cv, "scoring": self.scoring, "refit": False, **options}


def octaves(low: float, high: float, step: float) -> Levels:
    """Return the powers of two from 2**low to 2**high."""
    return Levels(2.0 ** np.arange(low, high + step / 2, step))


def part(data: tuple[Any, Any], n: int) -> tuple[Any, Any]:
    """Return `n` rows, always the same, so that a fit takes a few milliseconds."""
    X, _, y, _ = train_test_split(*data, train_size=n, stratify=data[1], random_state=0)
    return X, y


def problems() -> list[Problem]:
    """Return data, models and spaces."""
    return [
        Problem(
            "breast cancer (300 of 569), SVC, ROC AUC",
            part(load_breast_cancer(return_X_y=True), 300),
            Pipeline([("scale", StandardScaler()), ("svc", SVC())]),
            {
                "estimator__svc__C": octaves(-4, 12, 1 / 3),
                "estimator__svc__gamma": octaves(-14, 2, 1 / 3),
            },
            "roc_auc",
        ),
        Problem(
            "wine, nearest neighbours, log loss",
            load_wine(return_X_y=True),
            Pipeline(
                [("scale", StandardScaler()), ("pca", PCA()), ("knn", KNeighborsClassifier())]
            ),
            {
                "estimator__pca__n_components": randint(1, 14),
                "estimator__knn__n_neighbors": randint(2, 15),
                "estimator__knn__p": Levels([1, 1.5, 2, 3, 4]),
                "estimator__knn__weights": ["uniform", "distance"],
            },
            "neg_log_loss",
        ),
        Problem(
            "digits (300 of 1,797), PCA and SVC, accuracy",
            part(load_digits(return_X_y=True), 300),
            Pipeline([("pca", PCA(random_state=0)), ("svc", SVC())]),
            {
                "estimator__pca__n_components": randint(4, 24),
                "estimator__svc__C": octaves(-4, 8, 1),
                "estimator__svc__gamma": octaves(-18, -5, 1),
            },
            "accuracy",
        ),
        Problem(
            "diabetes, decision tree, R2",
            load_diabetes(return_X_y=True),
            DecisionTreeRegressor(random_state=0),
            {
                "estimator__max_depth": randint(1, 13),
                "estimator__min_samples_leaf": randint(1, 61),
                "estimator__max_features": Levels([0.2, 0.4, 0.6, 0.8]),
            },
            "r2",
        ),
    ]


# How it is searched


class Draws:
    """Endless independent draws, none twice.  Each iteration is the same."""

    def __init__(self, space: dict[str, Any], seed: int) -> None:
        self.space = space
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        seen = set()
        for candidate in ParameterSampler(self.space, 10**6, random_state=self.seed):
            key = tuple(candidate.items())
            if key not in seen:
                seen.add(key)
                yield dict(candidate)


class OneByOne:
    """Draws that are asked for when those before are known, so that nothing is asked in vain."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def begin(self, directions: Any) -> None:
        self._left = iter(self.draws)

    def ask(self, n: int) -> list[dict[str, Any]]:
        return list(itertools.islice(self._left, n))


class AshaUntil(AsyncHalving):
    """ASHA that ends when a candidate with all resources is good enough: no lower rung counts."""

    def __init__(self, candidates: Any, target: float) -> None:
        super().__init__(candidates, resource="ninths", min_resources=1, max_resources=9, factor=3)
        self.target = target

    def begin(self, directions: Any) -> None:
        super().begin(directions)
        self._reached = False

    def ask(self, n: int) -> list[dict[str, Any]]:
        return [] if self._reached else super().ask(n)

    def tell(self, evaluations: Any) -> None:
        super().tell(evaluations)
        for one in evaluations:
            scores = [*one.scores.values(), -math.inf]
            self._reached |= one.params["ninths"] == 9 and scores[0] >= self.target


@dataclass
class Trace:
    """What a method asked for, in order: (fits, the same in rows, score on all rows or NaN)."""

    steps: list[tuple[int, float, float]] = field(default_factory=list)
    seconds: float = 0.0

    def fits(self) -> int:
        return sum(fits for fits, _, _ in self.steps)

    def needed(self, threshold: float, budget: int) -> tuple[float, float]:
        """Return fits and rows until a score is at least `threshold`; infinite if none is."""
        fits, rows = 0, 0.0
        for more, part, score in self.steps:
            fits, rows = fits + more, rows + part
            if fits > budget:
                break
            if score >= threshold - ROUNDING:
                return fits, rows
        return math.inf, math.inf


#: A method: (problem, seed, target or infinity, candidates' worth of fits, options) -> trace.
Method = Callable[[Problem, int, float, int, dict[str, Any]], Trace]


def searched(problem: Problem, generator: Any, n_iter: int, target: float, **options: Any) -> Trace:
    """Search with an adaptive generator; return what it asked for."""
    limit = {} if math.isinf(target) else {"target_score": target - ROUNDING}
    return timed(problem, generator, n_iter=n_iter, **limit, **options)


def timed(problem: Problem, generator: Any, **options: Any) -> Trace:
    """Fit one search and go through its table in the order of asking.

    A candidate that is asked for again takes no fits.
    """
    search = MongoSearchCV(problem.estimator, generator, **problem.of(**options))
    began = time.perf_counter()
    search.fit(*problem.data)
    trace = Trace(seconds=time.perf_counter() - began)
    table, seen = search.cv_results_, set()
    splits = np.array([table[f"split{n}_test_score"] for n in range(N_SPLITS)])
    for candidate, scores in zip(table["params"], splits.T, strict=True):
        key = repr(sorted(candidate.items()))
        if key in seen:
            continue
        seen.add(key)
        ninths = candidate.get("ninths", 9)
        raced = "stopped_after" in table
        fits = int(np.isfinite(scores).sum()) if raced else N_SPLITS
        whole = ninths == 9 and fits == N_SPLITS
        trace.steps.append((fits, fits * ninths / 9, scores.mean() if whole else math.nan))
    return trace


def random(problem, seed, target, candidates, options):
    # Nothing depends on what came of those before: all at once, and counted afterwards.
    return timed(problem, iter(Draws(problem.space, seed)), n_iter=candidates, **options)


def tpe(problem, seed, target, candidates, options):
    generator = OptunaGenerator(problem.space, optuna.samplers.TPESampler(seed=seed))
    return searched(problem, generator, candidates, target, **options)


def asha(problem, seed, target, candidates, options):
    generator = AshaUntil(Draws(problem.space, seed), target - ROUNDING)
    return timed(problem, generator, n_iter=candidates, **options)


def racing(problem, seed, target, candidates, options):
    draws = OneByOne(Draws(problem.space, seed))
    most = candidates * N_SPLITS // 3  # each gets three splits at least
    return searched(problem, draws, most, target, racing=True, **options)


def filtered(problem, seed, target, candidates, options):
    draws = OneByOne(Draws(problem.space, seed))
    filters = [PromisingFilter(keep=0.5, seed=seed)]
    return searched(problem, draws, 2 * candidates, target, filters=filters, **options)


def halving(problem, seed, target, candidates, options):
    trace, bracket = Trace(), 0
    while trace.fits() < candidates * N_SPLITS:
        steps, seconds = one_bracket(problem, 1000 * seed + bracket, options)
        bracket += 1
        trace.steps += steps
        trace.seconds += seconds
        if steps[-1][2] >= target - ROUNDING:
            break
    return trace


def one_bracket(problem: Problem, seed: int, options: dict[str, Any]) -> tuple[list, float]:
    """Halve 27 candidates; the best of the last three is what it found."""
    n = len(problem.data[0])
    search = MongoHalvingRandomSearchCV(
        problem.estimator,
        problem.space,
        n_candidates=27,
        factor=3,
        min_resources=n // 9,
        max_resources=n,
        random_state=seed,
        return_train_score=False,
        **problem.of(**options),
    )
    began = time.perf_counter()
    search.fit(*problem.data)
    seconds = time.perf_counter() - began
    counts = zip(search.n_candidates_, search.n_resources_, strict=True)
    steps = [(N_SPLITS * c, N_SPLITS * c * r / n, math.nan) for c, r in counts]
    table = search.cv_results_
    last = table["iter"] == table["iter"].max()
    best = [p for p, in_last in zip(table["params"], last, strict=True) if in_last]
    # Its last iteration has the rows in another order: scored again as the others are, for nothing.
    steps[-1] = (*steps[-1][:2], max(all_scores(problem, best, options)))
    return steps, seconds


METHODS: dict[str, Method] = {
    "random": random,
    "TPE": tpe,
    "halving": halving,
    "ASHA": asha,
    "racing": racing,
    "filter": filtered,
}
if "racing" not in inspect.signature(MongoSearchCV).parameters:
    del METHODS["racing"]


def all_scores(problem: Problem, candidates: list[dict], options: dict[str, Any]) -> Any:
    """Return the mean scores of candidates on all rows."""
    grid = [{name: [value] for name, value in candidate.items()} for candidate in candidates]
    search = MongoSearchCV(problem.estimator, grid, **problem.of(**options))
    return search.fit(*problem.data).cv_results_["mean_test_score"]


# Fits


def compare(task: tuple[int, int, str, int]) -> tuple[int, float, dict[str, Any]]:
    """Return the target of a problem and seed, and what each method needed."""
    number, seed, db, candidates = task
    quietly()
    problem, options = problems()[number], {"db": db}
    draws = itertools.islice(Draws(problem.space, 10_000 + seed), candidates)
    target = float(np.nanmax(all_scores(problem, list(draws), options)))
    budget = candidates * N_SPLITS
    needed = {}
    for name, method in METHODS.items():
        trace = method(problem, seed, target, candidates, options)
        near = trace.needed(target - NEAR * abs(target), budget)
        needed[name] = (trace.needed(target, budget), near)
    say(f"{problem.name}, seed {seed}: target {target:.6g}; " + shown_needs(needed))
    return number, target, needed


def shown_needs(needed: dict[str, Any]) -> str:
    return ", ".join(f"{name} {exact[0]:.0f}" for name, (exact, _) in needed.items())


def quietly() -> None:
    """Keep BLAS to one thread a process, and warnings of what is meant to be odd to ourselves."""
    threadpool_limits(1)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def fits_table(results: list[tuple[int, float, dict[str, Any]]], candidates: int) -> None:
    """Print a table for each data set."""
    budget = candidates * N_SPLITS
    for number, problem in enumerate(problems()):
        runs = [(target, needed) for n, target, needed in results if n == number]
        if not runs:
            continue
        targets = [target for target, _ in runs]
        print(f"\n{problem.name}; targets {min(targets):.5g} to {max(targets):.5g}\n")
        print("| | reached | fits | in rows | near | fits |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name in METHODS:
            exact, near = zip(*(needed[name] for _, needed in runs), strict=True)
            cells = [reached(exact), spread([f for f, _ in exact], budget)]
            cells += [median([r for _, r in exact], budget)]
            cells += [reached(near), spread([f for f, _ in near], budget)]
            print(f"| {name} | {' | '.join(cells)} |")


def reached(needs: Any) -> str:
    return f"{sum(math.isfinite(fits) for fits, _ in needs)} of {len(needs)}"


def spread(values: list[float], budget: int) -> str:
    """Return the median and the range of those that got there."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return f"> {budget:,}"
    return f"{median(values, budget)} ({min(finite):,.0f} to {max(finite):,.0f})"


def median(values: list[float], budget: int) -> str:
    middle = statistics.median(values)  # infinite where half of them or more did not get there
    return f"{middle:,.0f}" if math.isfinite(middle) else f"> {budget:,}"


# Seconds


def seconds_table(chosen: argparse.Namespace, uri: str) -> None:
    """Print what a fixed number of fits takes with two workers, on empty databases."""
    spent: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for round_ in range(chosen.rounds):
        for number in chosen.numbers:
            for name in METHODS:
                one = on_an_empty_database(problems()[number], name, round_, chosen.wall, uri)
                spent.setdefault((name, number), []).append(one)
                say(f"{problems()[number].name}, {name}: {one[0]:.2f} s for {one[1]} fits")
    print(f"\nSeconds with two local workers, medians of {chosen.rounds} (fits)\n")
    names = [
        problems()[number].name.partition(",")[0].partition(" (")[0] for number in chosen.numbers
    ]
    print(f"| | {' | '.join(names)} |")
    print("| --- " + "| ---: " * len(names) + "|")
    for name in METHODS:
        cells = []
        for number in chosen.numbers:
            seconds, fits = zip(*spent[name, number], strict=True)
            cells.append(f"{statistics.median(seconds):.1f} ({statistics.median(fits):.0f})")
        print(f"| {name} | {' | '.join(cells)} |")


def on_an_empty_database(
    problem: Problem, name: str, seed: int, candidates: int, uri: str
) -> tuple[float, int]:
    """Return seconds and fits of one run; its workers are warm, and nothing is stored."""
    options = {"db": uri, "n_jobs": 2}
    with MongoClient(uri) as client:
        client.drop_database(client.get_default_database().name)
    X, y = problem.data
    shifted = Problem(problem.name, (X + 1, y), problem.model, problem.space, problem.scoring)
    all_scores(shifted, list(itertools.islice(Draws(problem.space, 1), 2)), options)
    trace = METHODS[name](problem, seed, math.inf, candidates, options)
    return trace.seconds, trace.fits()


def main() -> None:
    """Measure both and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="seeds a method (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of wall time (default 3)")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="default 500")
    parser.add_argument("--wall", type=int, default=60, help="candidates timed (default 60)")
    parser.add_argument("--data", nargs="*", default=[], help="first words of data sets")
    chosen = parser.parse_args()
    names = [problem.name for problem in problems()]
    chosen.numbers = [
        n for n, name in enumerate(names) if not chosen.data or name.startswith(tuple(chosen.data))
    ]
    began = time.perf_counter()
    db, timed_db = (serve().replace("/optomatic?", f"/{n}?") for n in ("generators", "timed"))
    tasks = [
        (number, seed, db, chosen.candidates)
        for seed in range(chosen.seeds)
        for number in chosen.numbers
    ]
    # One fit after the other in each of two processes: what is counted does not depend on it.
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map(compare, tasks, chunksize=1)
    print(
        f"Fits until the best score of a random search of {chosen.candidates} candidates, of at "
        f"most {chosen.candidates * N_SPLITS:,}; medians (range) of {chosen.seeds} seeds"
    )
    fits_table(results, chosen.candidates)
    quietly()
    if chosen.rounds:
        seconds_table(chosen, timed_db)
    for uri in (db, timed_db):
        with MongoClient(uri) as client:
            client.drop_database(client.get_default_database().name)
    if "racing" not in METHODS:
        print("\nracing is not in this version and was left out")
    say(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
