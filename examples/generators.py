"""
Guided searches: generators, filters, an early end, halving
===========================================================

A *generator* proposes candidates, a *filter* leaves some out, and a budget ends the search.  The
example shows a quasi-random sequence, a generator of one's own, filters, an early end,
successive halving, and Optuna's TPE.  Each part prints the units that were stored and scored.

The last part needs Optuna: ``pip install "optomatic[optuna]"``.
"""

import sys
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
OPTIONS = {"cv": 3, "n_jobs": 2}


def show(title, search):
    """Fit a search and say what it took."""
    search.fit(X, y)
    print(f"{title}\n  {search.summary_}")
    print(f"  best: {search.best_params_} with {search.best_score_:.4f}")


# %%
# A quasi-random sequence
# -----------------------
# Its points fill the space more evenly than random ones.

points = QuasiRandom(SPACE, seed=0)
show("a quasi-random sequence:", MongoSearchCV(SVC(), points, n_iter=16, **OPTIONS))

# %%
# A generator of one's own
# ------------------------
# A generator has a method ``ask``, and a method ``tell`` if it learns from scores.


class NearTheBest:
    """Steps from the best candidate so far, at random."""

    def __init__(self, seed):
        self.rng, self.best = np.random.default_rng(seed), (0.0, {"C": 1.0, "gamma": 1e-3})

    def ask(self, n):
        step = lambda value: float(value * 10 ** self.rng.normal(0, 0.5))  # noqa: E731
        return [{name: step(value) for name, value in self.best[1].items()} for _ in range(n)]

    def tell(self, evaluations):
        scored = [(e.scores["score"], e.params) for e in evaluations if e.state == "completed"]
        self.best = max([self.best, *scored], key=lambda pair: pair[0])


show("a generator of one's own:", MongoSearchCV(SVC(), NearTheBest(0), n_iter=12, **OPTIONS))

# %%
# Filters
# -------
# They leave out invalid candidates, candidates next to earlier ones, and unpromising ones.

filters = [
    ValidFilter(lambda c: c["C"] * c["gamma"] < 10),
    NearFilter(0.02, log=["C", "gamma"]),
    PromisingFilter(keep=0.5, min_history=12),
]
search = MongoSearchCV(
    SVC(), param_distributions=SPACE, n_iter=40, random_state=0, filters=filters, **OPTIONS
)
show("draws, of which filters leave some out:", search)

# %%
# An early end
# ------------
# The sequence could give 200 candidates; the search ends when twelve in a row bring nothing.

search = MongoSearchCV(SVC(), points, n_iter=200, n_no_improve=12, **OPTIONS)
show("until twelve in a row are no better:", search)

# %%
# Successive halving
# ------------------
# All candidates get a few trees; the best third of them gets three times as many.

search = MongoHalvingRandomSearchCV(
    RandomForestClassifier(random_state=0),
    {"max_depth": [2, 4, 8, None], "max_features": [2, 4, 8, 16]},
    resource="n_estimators",
    max_resources=40,
    n_candidates=9,
    random_state=0,
    **OPTIONS,
)
show("successive halving over the number of trees:", search)

# %%
# Optuna's TPE
# ------------
# A sampler of Optuna proposes the candidates; the scores stay in the database.

try:
    import optuna
except ImportError:
    sys.exit('This part needs Optuna, which is not installed: pip install "optomatic[optuna]"')

optuna.logging.set_verbosity(optuna.logging.WARNING)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar
    sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True)
tpe = OptunaGenerator(SPACE, sampler)
show("Optuna's TPE:", MongoSearchCV(SVC(), tpe, n_iter=20, **OPTIONS))
