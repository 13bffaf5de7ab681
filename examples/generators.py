"""Searches that are guided: generators, filters, an early end, and successive halving.

``pip install "optomatic[optuna]"`` for the part with Optuna.
"""

import warnings

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from optomatic import MongoHalvingRandomSearchCV, MongoSearchCV
from optomatic.filters import NearFilter, PromisingFilter, ValidFilter
from optomatic.generators import OptunaGenerator, QuasiRandom

X, y = load_digits(return_X_y=True)
X, y = X[:600], y[:600]
SPACE = {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-5, 1e-1)}


def show(title, search):
    """Fit a search and say what it took."""
    search.fit(X, y)
    print(f"{title}\n  {search.summary_}")
    print(f"  best: {search.best_params_} with {search.best_score_:.4f}")


class NearTheBest:
    """A generator of one's own: it steps from the best candidate so far, at random."""

    def __init__(self, seed):
        self.rng, self.best = np.random.default_rng(seed), (0.0, {"C": 1.0, "gamma": 1e-3})

    def ask(self, n):
        step = lambda value: float(value * 10 ** self.rng.normal(0, 0.5))  # noqa: E731
        return [{name: step(value) for name, value in self.best[1].items()} for _ in range(n)]

    def tell(self, evaluations):
        scored = [(e.scores["score"], e.params) for e in evaluations if e.state == "completed"]
        self.best = max([self.best, *scored], key=lambda pair: pair[0])


def main():
    options = {"cv": 3, "n_jobs": 2}
    points = QuasiRandom(SPACE, seed=0)
    show("a quasi-random sequence:", MongoSearchCV(SVC(), points, n_iter=16, **options))
    show("a generator of one's own:", MongoSearchCV(SVC(), NearTheBest(0), n_iter=12, **options))

    filters = [
        ValidFilter(lambda c: c["C"] * c["gamma"] < 10),
        NearFilter(0.02, log=["C", "gamma"]),
        PromisingFilter(keep=0.5, min_history=12),
    ]
    search = MongoSearchCV(
        SVC(), param_distributions=SPACE, n_iter=40, random_state=0, filters=filters, **options
    )
    show("draws, of which filters leave some out:", search)

    search = MongoSearchCV(SVC(), points, n_iter=200, n_no_improve=12, **options)
    show("until twelve in a row are no better:", search)

    search = MongoHalvingRandomSearchCV(
        RandomForestClassifier(random_state=0),
        {"max_depth": [2, 4, 8, None], "max_features": [2, 4, 8, 16]},
        resource="n_estimators",
        max_resources=40,
        n_candidates=9,
        random_state=0,
        **options,
    )
    show("successive halving over the number of trees:", search)

    try:
        from optuna.samplers import TPESampler
    except ImportError:
        print("Optuna is not installed, so its part is left out.")
        return
    tpe = OptunaGenerator(SPACE, TPESampler(seed=0, constant_liar=True))
    show("Optuna's TPE:", MongoSearchCV(SVC(), tpe, n_iter=20, **options))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls constant_liar experimental
        main()
