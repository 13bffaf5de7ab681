"""How much the score depends on each param, by scikit-learn's own forest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optomatic.plots.search_data import Floats, SearchData

#: Candidates that a forest needs, and that it gets at most.
LEAST, _MOST = 10, 1_000
#: Stands for the rows that candidates got in successive halving, on which scores depend too.
RESOURCES = "(resources)"
_FOLDS, _TREES, _REPEATS = 5, 30, 3


@dataclass(frozen=True)
class Importance:
    """Importance of the params in which candidates differ, the most important first.

    Attributes
    ----------
    names : list of str
    means, stds : ndarray of shape (n_params,)
        By how much R² on held-out candidates falls if the values of the param are shuffled: the
        mean and deviation over folds.  NaN if there are fewer candidates than `LEAST`.
    r2 : float
        R² of the forest on held-out candidates: how much the params explain at all.
    n_candidates : int
        Candidates with a score.
    """

    names: list[str]
    means: Floats
    stds: Floats
    r2: float
    n_candidates: int


def importances(data: SearchData) -> Importance:
    """Return the permutation importance of each param in a random forest.

    Notes
    -----
    A :class:`~sklearn.ensemble.RandomForestRegressor` learns the scores of candidates
    from their params (categories by number), and
    :func:`~sklearn.inspection.permutation_importance` shuffles one param after another on the
    candidates that it has not seen, in five folds.  Of more than 1,000 candidates as many are
    drawn.  Shuffling is Breiman's [1]_; forests over params are Hutter's, Hoos' and
    Leyton-Brown's [2]_, whose fANOVA splits the variance of the forest instead.  Params that say
    the same share their importance.

    References
    ----------
    .. [1] L. Breiman, Random Forests, Machine Learning 45, 2001, section 10.
    .. [2] F. Hutter, H. Hoos and K. Leyton-Brown, An Efficient Approach for Assessing
       Hyperparameter Importance, ICML 2014.
    """
    names = data.varying()
    rows = np.flatnonzero(data.complete | data.partial)
    unknown = np.full(len(names), np.nan)
    if len(rows) < LEAST or not names or np.ptp(data.scores[rows]) == 0:
        return Importance(names, unknown, unknown, np.nan, len(rows))
    if len(rows) > _MOST:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST, replace=False))
    columns = [data.params[name].at[rows] for name in names]
    if data.resources is not None and data.resource is None and names:
        names, columns = [*names, RESOURCES], [*columns, data.resources[rows]]
    falls, r2 = _falls(np.column_stack(columns), data.scores[rows])
    means, stds = falls.mean(axis=0), falls.std(axis=0)
    order = np.argsort(-means, kind="stable")
    return Importance([names[n] for n in order], means[order], stds[order], r2, len(rows))


def _falls(X: Floats, y: Floats) -> tuple[Floats, float]:
    """Return the fall of R² by fold and param, and R² itself."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold

    falls, predicted = [], np.zeros(len(y))
    for train, test in KFold(_FOLDS, shuffle=True, random_state=0).split(X):
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0)
        forest.fit(X[train], y[train])
        predicted[test] = forest.predict(X[test])
        found = permutation_importance(
            forest, X[test], y[test], scoring="neg_mean_squared_error", n_repeats=_REPEATS,
            random_state=0,
        )  # fmt: skip
        # By the variance of all scores: those of a small fold may vary little by chance.
        falls.append(found.importances_mean / y.var())
    return np.array(falls), float(r2_score(y, predicted))


def most_important(data: SearchData) -> list[str]:
    """Return the params in which candidates differ, the most important first.

    In their own order if there are too few scores to tell.
    """
    return [name for name in importances(data).names if name in data.params]
