"""When the pages of the dashboard are painted, for searches of 10, 1,000 and 100,000 units.

The searches are made once (their estimator does nothing); a later run finds their scores.  Then a
real Chromium opens the page of each several times.  Printed are the medians in seconds, from the
beginning of the navigation: the first paint, the progress on the page, and the first picture.
At last a search runs, and the seconds from the end of each unit in the store until its page shows
it are printed.

Run it with ``python benchmarks/dashboard.py [--units 10 1000 100000] [--rounds R]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
import warnings
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import browsers

from optomatic import MongoSearch, MongoSearchCV, attach, searches

N_SPLITS = 5


class Dummy(ClassifierMixin, BaseEstimator):
    """Learns nothing; its score is a function of its params, and each hundredth fit fails."""

    def __init__(self, alpha: float = 1.0, kernel: str = "rbf", number: int = 0) -> None:
        self.alpha = alpha
        self.kernel = kernel
        self.number = number

    def fit(self, X, y):
        if self.number % 100 == 99:
            raise ValueError(f"{self.number} is too much")
        return self

    def score(self, X, y):
        wave = np.sin(self.number) * 0.05 + len(self.kernel) * 0.02
        return float(0.9 - 0.03 * np.log10(self.alpha) ** 2 + wave)


def make(units: int) -> str:
    """Make a search of so many units, unless it is there; return its name."""
    name, n = f"{units:,} units", max(1, units // N_SPLITS)
    if name in set(searches().query("state == 'completed'")["name"]):
        return name
    kernels = cycle(["linear", "rbf", "polynomial", "sigmoid"])
    alphas = np.random.default_rng(0).uniform(-3, 3, n)
    grid = [
        {"alpha": [float(10**a)], "kernel": [next(kernels)], "number": [k]}
        for k, a in enumerate(alphas)
    ]
    X, y = np.random.default_rng(0).random((50, 2)), np.arange(50) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        MongoSearchCV(Dummy(), grid, cv=N_SPLITS, refit=False, name=name).fit(X, y)
        print(f"{name}: made in {time.perf_counter() - began:.1f} s", flush=True)
    return name


def measure(address: str, rounds: int) -> dict[str, float]:
    """Return medians of the moments at which a page shows something, in seconds."""
    found: dict[str, list[float]] = {}
    with browsers.chromium() as browser:
        for _ in range(rounds):
            browser.get(address)
            for name, moment in browsers.moments(browser).items():
                found.setdefault(name, []).append(moment)
    return {name: statistics.median(values) for name, values in found.items()}


def slow(number: int, seconds: float, run: str) -> float:
    """Return a score after some time."""
    time.sleep(seconds)
    return float(number)


_ENDS = """
const found = window.ends = {};
const look = () => {
  const n = /([0-9]+) of [0-9]+ units have ended/.exec(document.body.innerText)?.[1];
  if (n && !(n in found)) found[n] = Date.now() / 1000;
};
setInterval(look, 10);
"""


def follow(address: str, units: int, seconds: float) -> list[float]:
    """Run a search whose page is open; return how long after its end each unit was shown."""
    name = f"followed {time.time():.0f}"
    space = {"number": range(units), "seconds": [seconds], "run": [name]}  # no score is there yet
    running = threading.Thread(target=MongoSearch(slow, space, name=name).run)
    with browsers.chromium() as browser:
        running.start()
        time.sleep(1.0)
        browser.get(f"{address}search/{name}")
        browser.execute_script(_ENDS)
        running.join()
        browsers.wait_for_text(browser, f"{units} of {units} units have ended")
        time.sleep(0.1)
        shown = browser.execute_script("return window.ends")
    ends = sorted(attach(name).to_frame("split")["ended"])
    known = [(end.timestamp(), shown.get(str(n))) for n, end in enumerate(ends, 1)]
    return [at - end for end, at in known if at is not None][1:]  # the page opens with the first


def main() -> None:
    """Make the searches, serve the dashboard, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, nargs="+", default=[10, 1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--make", action="store_true", help="make the searches, and end")
    chosen = parser.parse_args()
    names: list[Any] = [make(units) for units in chosen.units]
    if chosen.make:
        return
    with browsers.served() as address:
        for name in ("", *names):
            page = f"search/{name}" if name else ""
            told = measure(f"{address}{page}", chosen.rounds)
            texts = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in told.items())
            print(f"{name or 'list of searches'}: {texts}", flush=True)
        late = follow(address, 20, 1.0)
        print(
            f"the end of a unit is shown after {statistics.median(late):.2f} s (median), "
            f"{max(late):.2f} s at most of {len(late)}"
        )


if __name__ == "__main__":
    main()
