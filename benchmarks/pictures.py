"""Every picture of searches of every kind, in both themes, to look at; prints how long each takes.

The searches: one that runs, one that is done (1,000 candidates), one with failures, a raced one,
successive halving, one of a function, one of 100,000 units, one of a single candidate, and one
without a score.  They are made once; a later run finds their scores, but for the one that runs.

Run it with ``python benchmarks/pictures.py FOLDER [--units N] [--only NAME ...]``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin

from optomatic import MongoHalvingRandomSearchCV, MongoSearch, MongoSearchCV, attach
from optomatic.plots.displays import DISPLAYS

matplotlib.use("agg")
X, Y = np.random.default_rng(0).normal(size=(600, 3)), np.arange(600) % 2
#: A space with a log scale, a linear one, categories, whole numbers, and values of several types.
SPACE = {
    "rate": loguniform(1e-4, 1.0),
    "share": uniform(0.0, 1.0),
    "kernel": ["linear", "rbf", "polynomial", "sigmoid"],
    "depth": [None, 2, 4, 8],
    "trees": randint(10, 500),
}


class Surface(ClassifierMixin, BaseEstimator):
    """Learns nothing: its score is a smooth function of its params, with noise of the split."""

    def __init__(
        self, rate=0.1, share=0.5, kernel="rbf", depth=None, trees=100, seconds=0.0, ill=False
    ):
        self.rate = rate
        self.share = share
        self.kernel = kernel
        self.depth = depth
        self.trees = trees
        self.seconds = seconds
        self.ill = ill

    def fit(self, X, y):
        if self.ill and self.kernel == "sigmoid" and self.rate > 0.01:
            raise ValueError(f"the loss is infinite with rate={self.rate}")
        time.sleep(self.seconds * (1 + np.sin(self.trees)) / 2)
        self.n_rows_ = len(X)
        return self

    def score(self, X, y):
        kernel = {"linear": 0.0, "rbf": 0.06, "polynomial": 0.03}.get(self.kernel, -0.06)
        best = 0.9 - 0.05 * (np.log10(self.rate) + 2) ** 2 - 0.1 * (self.share - 0.4) ** 2 + kernel
        noise = np.random.default_rng(int(abs(X[:9]).sum() * 1e6) % 2**32).normal()
        return float(best - 3 / self.n_rows_ + 0.01 * noise * (2 - self.share))


def loss(params):
    """Return a loss that spans several powers of ten; some candidates raise."""
    time.sleep(0.02)
    if params["solver"] == "newton" and params["penalty"] > 10:
        raise ArithmeticError("the Hessian is singular")
    wide = 1 + params.get("momentum", 0.5)
    error = (np.log10(params["penalty"]) + 1) ** 2 * wide + 10 ** (3 * params["noise"] - 3)
    return {"loss": float(error), "steps": float(100 * wide)}


def _fit(name: str, space: Any, **options: Any) -> None:
    options = {"cv": 3, "refit": False, "random_state": 0, **options}
    ill, seconds = options.pop("ill", False), options.pop("seconds", 0.0)
    MongoSearchCV(Surface(ill=ill, seconds=seconds), space, name=name, **options).fit(X, Y)


def make(name: str, units: int) -> tuple[Any, str]:
    """Make a search, or find it again; return the process that runs it, and its name."""
    if name == "running":
        name = f"running {time.time_ns()}"
        client = subprocess.Popen([sys.executable, __file__, "--client", name])
        while not _has_scores(name):
            time.sleep(1)
        return client, name
    if name == "function":
        one = {"penalty": loguniform(1e-3, 1e3), "noise": uniform(), "solver": ["newton", "sgd"]}
        two = {**one, "solver": ["sgd"], "momentum": uniform()}
        ways = {"loss": "minimize", "steps": "minimize"}
        MongoSearch(
            loss, [one, two], n_iter=120, direction=ways, name=name, n_jobs=2, random_state=0
        ).run()
    if name == "halving":
        MongoHalvingRandomSearchCV(
            Surface(), SPACE, cv=3, n_candidates=40, min_resources=20, name=name, refit=False,
            random_state=0,
        ).fit(X, Y)  # fmt: skip
    if name == "empty":
        MongoSearch(loss, {"penalty": [1.0, 2.0]}, name=name).submit()
    made = {
        "done": (SPACE, {"n_iter": 1_000}),
        "failures": (SPACE, {"n_iter": 80, "ill": True, "n_jobs": 2, "seconds": 0.1}),
        "raced": (SPACE, {"n_iter": 40, "cv": 10, "racing": True}),
        "large": (SPACE, {"n_iter": units // 5, "cv": 5}),
        "one": ({"rate": [0.1]}, {}),
        "grid": ({"rate": [0.001, 0.01, 0.1], "kernel": SPACE["kernel"]}, {"cv": 5}),
    }
    if name in made:
        space, options = made[name]
        _fit(name, space, **options)
    return None, name


def _has_scores(name: str) -> bool:
    try:
        return attach(name).counts().get("completed", 0) >= 60
    except ValueError:  # it has not begun
        return False


SEARCHES = (
    *("running", "done", "failures", "raced", "halving", "function", "large", "one", "empty"),
    "grid",
)
#: Pictures that are drawn in another way too.
OPTIONS: dict[str, list[dict[str, Any]]] = {"history": [{}, {"by": "time"}]}


def main() -> None:
    """Make searches, and write their pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("pictures"))
    parser.add_argument("--units", type=int, default=100_000, help="of the large search")
    parser.add_argument("--only", nargs="+", choices=SEARCHES, default=SEARCHES)
    parser.add_argument("--client", metavar="NAME", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.client:
        space = {**SPACE, "trees": [time.time_ns() % 10**9 + n for n in range(99)]}
        return _fit(chosen.client, space, n_iter=60, n_jobs=2, seconds=1.0)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        client, own = make(name, chosen.units)
        try:
            draw(own, name, chosen.folder)
        finally:
            if client is not None:
                client.terminate()
                client.wait()
    return None


def draw(search_name: str, name: str, folder: Path) -> None:
    """Write all pictures of a search to files that begin with `name`."""
    search = attach(search_name)
    began = time.perf_counter()
    read = search._stored()
    print(f"{name}: read in {time.perf_counter() - began:.1f} s")
    search._stored = lambda: read  # once for all pictures
    for kind, display in DISPLAYS.items():
        for options in OPTIONS.get(kind, [{}]):
            label = "-".join([name, kind, *map(str, options.values())])
            began = time.perf_counter()
            drawn = display.from_search(search, theme="light", **options)
            drawn.figure_.savefig(folder / f"{label}-light.png", dpi=80)
            print(f"  {label}: {time.perf_counter() - began:.2f} s")
            drawn.plot(theme="dark").figure_.savefig(folder / f"{label}-dark.png", dpi=80)
            matplotlib.pyplot.close("all")


if __name__ == "__main__":
    main()
