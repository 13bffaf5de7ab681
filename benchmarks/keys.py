"""What it takes to key work: a candidate, data, user code, and a payload with its comparison.

::

    python benchmarks/keys.py [--repeats 7]

Prints the median in milliseconds of each, in one process.  A first call is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from optomatic.keys.digest import digest_of
from optomatic.keys.environment import versions
from optomatic.keys.estimators import Effective
from optomatic.planning.payload import Sender

FACTOR = {"a": 1.0, "b": 2.0}


def _scaled(X):
    return X * FACTOR["a"]


def _shifted(X):
    return _scaled(X) + FACTOR["b"]


def own_function(X):
    """Call two helpers that use a global."""
    return np.abs(_shifted(X))


class Own(TransformerMixin, BaseEstimator):
    """A transformer of the user's."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y=None):
        """Learn nothing."""
        return self

    def transform(self, X):
        """Call user code."""
        return own_function(X) ** self.power


def cases() -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    pipeline = make_pipeline(StandardScaler(), PCA(), SVC())
    effective = Effective(pipeline)
    candidates = [
        {"svc__C": 0.5 + n, "svc__gamma": 0.1, "pca__n_components": 3} for n in range(1000)
    ]
    rng = np.random.default_rng(0)
    array = rng.random(10_000_000)
    frame = pd.DataFrame(rng.random((100_000, 10)), columns=[f"c{n}" for n in range(10)])
    texts = frame.assign(c0=pd.Series([f"t{n % 1000}" for n in range(100_000)], dtype=object))
    user = make_pipeline(Own(), FunctionTransformer(own_function), SVC())
    found = {
        "1,000 candidates of three scalars": lambda: [effective.of(own) for own in candidates],
        "SVC": lambda: Effective(SVC()),
        "pipeline of three steps": lambda: Effective(pipeline),
        "own function with two helpers": lambda: digest_of(own_function),
        "80 MB array": lambda: digest_of(array),
        "frame of 1e5 x 10": lambda: digest_of(frame),
        "the same with a column of texts": lambda: digest_of(texts),
        "forest of 100 trees, fitted": _fitted_forest(),
        "payload of a pipeline": lambda: Sender({"estimator": pipeline}).send([]),
        "payload with user code": lambda: Sender({"estimator": user}).send([]),
        "versions that count": lambda: versions(["sklearn", "numpy", "scipy", "pandas"]),
    }
    try:
        import polars

        columns = {name: frame[name].to_numpy() for name in frame}
        table = polars.DataFrame(columns)
        found["polars frame of 1e5 x 10"] = lambda: digest_of(table)
    except ImportError:
        pass
    return found


def _fitted_forest() -> Callable[[], object]:
    X = np.random.default_rng(0).random((200, 4))
    forest = RandomForestClassifier(random_state=0).fit(X, X[:, 0] > 0.5)
    return lambda: digest_of([forest])


def main() -> None:
    """Time each and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    for name, call in cases().items():
        call()
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - began))
        print(f"{name:40} {statistics.median(taken):10.3f} ms")


if __name__ == "__main__":
    main()
