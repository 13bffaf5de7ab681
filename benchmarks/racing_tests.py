"""What racing spares and what it costs, by the test that stops candidates, on data of scikit-learn.

All candidates get all splits first; then each test is played through on these scores.  The
table shows medians over the seeds (of candidates and splits) of the part of all units that is
scored, and the worst loss: by how much the mean score of the candidate that wins the race is below
the best there is.  No store is needed.

Run it with ``python benchmarks/racing_tests.py [--seeds S] [--candidates N]``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.model_selection import KFold, RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier

from optomatic import Racing
from optomatic.candidates.racing import losers, p_values

RACING = Racing()
TREE = {
    "max_depth": range(1, 12),
    "min_samples_leaf": range(1, 30),
    "ccp_alpha": loguniform(1e-5, 1e-1),
}
CASES = {
    "iris, SVC": (load_iris, SVC()),
    "wine, SVC": (load_wine, SVC()),
    "breast cancer, SVC": (load_breast_cancer, SVC()),
    "digits, SVC": (load_digits, SVC()),
    "breast cancer, tree": (load_breast_cancer, DecisionTreeClassifier(random_state=0)),
    "diabetes, SVR": (load_diabetes, SVR()),
}


def corrected(scores: dict[int, list[float]], k: int, n_splits: int) -> list[int]:
    """Stop whom MongoSearchCV stops."""
    return losers(scores, scores, [1 / (n_splits - 1)] * k, RACING.alpha)


def plain(scores: dict[int, list[float]], k: int, n_splits: int) -> list[int]:
    """Take splits for independent."""
    return losers(scores, scores, [0.0] * k, RACING.alpha)


def holm(scores: dict[int, list[float]], k: int, n_splits: int) -> list[int]:
    """Correct also for the number of candidates, by Holm's procedure."""
    rows = np.array(list(scores.values()))
    best = int(np.argmax(rows.mean(axis=1)))
    found = p_values(rows[best], rows, 1 / (n_splits - 1))
    order = np.argsort(found)
    small = found[order] < RACING.alpha / np.arange(len(rows) - 1, -1, -1).clip(1)
    passed = int(np.argmin(small)) if not small.all() else len(rows)
    return [list(scores)[n] for n in order[:passed] if n != best]


TESTS: dict[str, Callable[..., list[int]]] = {"corrected": corrected, "plain": plain, "Holm": holm}


def race(table: np.ndarray, test: Callable[..., list[int]]) -> tuple[float, float]:
    """Return the part of all units that is scored, and what the winner is below the best."""
    n, n_splits = table.shape
    left, units = list(range(n)), n * RACING.min_splits
    for k in range(RACING.min_splits, n_splits):
        out = test({number: table[number, :k].tolist() for number in left}, k, n_splits)
        left = [number for number in left if number not in set(out)]
        units += len(left)
    means = table.mean(axis=1)
    return units / table.size, float(means.max() - means[left].max())


def scored(case: str, n_splits: int, n_candidates: int, seed: int) -> np.ndarray:
    """Return the score of each candidate on each split."""
    load, model = CASES[case]
    X, y = (part[:600] for part in load(return_X_y=True))
    name = type(model).__name__.lower()
    space = {f"{name}__C": loguniform(1e-3, 1e3), f"{name}__gamma": loguniform(1e-5, 1e1)}
    if name.startswith("decision"):
        space = {f"{name}__{param}": values for param, values in TREE.items()}
    kind = KFold if name == "svr" else StratifiedKFold
    results = (
        RandomizedSearchCV(
            make_pipeline(StandardScaler(), model),
            space,
            n_iter=n_candidates,
            cv=kind(n_splits, shuffle=True, random_state=seed),
            random_state=seed,
            refit=False,
        )
        .fit(X, y)
        .cv_results_
    )
    return np.array([results[f"split{k}_test_score"] for k in range(n_splits)]).T


def main() -> None:
    """Play the races through and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="races a case (default 10)")
    parser.add_argument("--candidates", type=int, default=50, help="in each race (default 50)")
    options = parser.parse_args()
    print("Part of the units that is scored (median), and the worst loss of score:\n")
    print(f"| data | splits | {' | '.join(TESTS)} |\n| --- | ---: |{' ---: |' * len(TESTS)}")
    for n_splits in (5, 10):
        for case in CASES:
            tables = [
                scored(case, n_splits, options.candidates, seed) for seed in range(options.seeds)
            ]
            cells = []
            for test in TESTS.values():
                parts, losses = zip(*(race(table, test) for table in tables), strict=True)
                cells.append(f"{statistics.median(parts):.2f}, {max(losses):.4f}")
            print(f"| {case} | {n_splits} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
