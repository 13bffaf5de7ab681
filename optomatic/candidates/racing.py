"""Racing: stop candidates that are clearly behind before they get all splits."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from optomatic.errors import shown

Floats = npt.NDArray[np.float64]


#: Relative difference below which scores are equal: sums in another order.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Racing:
    r"""The rule by which a candidate gets no further splits.

    Each candidate in the race is compared with the leader: the one with the best mean over the
    splits that both have.  The test is a one-sided paired t-test, whose variance is corrected for
    training sets that overlap.

    Parameters
    ----------
    alpha : float, default=0.05
        A candidate is out if such a lead, or a larger one, had less than this probability if
        both were equally good.
    min_splits : int, default=3
        Splits that every candidate gets; from then on there is a test after each.  At least 2,
        since one split has no variance.

    Notes
    -----
    Let :math:`d_1 \ldots d_k` be the leads of the leader on each of the `k` splits,
    :math:`\bar d` their mean, :math:`s^2` their variance (divided by ``k - 1``) and :math:`r` the
    mean of ``n_test / n_train`` over these splits.  Then

    .. math:: t = \bar d / \sqrt{(1 / k + r) \, s^2}

    is looked up in Student's distribution with ``k - 1`` degrees of freedom [1]_.  The plain test
    has ``1 / k`` alone: it takes splits for independent, though they share training rows, and so
    stops too many candidates [1]_, [2]_.

    Racing by tests is Maron and Moore's [3]_ and, with tests of this kind, F-Race's [4]_.  irace
    offers Friedman's test and the plain t-test; caret [5]_ and finetune fit one model to all
    candidates (generalized least squares, repeated measures ANOVA).  Friedman's test sees ranks
    alone, so that three splits never part the last two candidates (``p`` is 1 / 8 at best); one
    model assumes one variance, where bad candidates often vary far more than good ones.  So
    pairs are tested here, as in irace, and each comparison stands for itself, which is the
    default there: corrected for their number (Holm, Bonferroni), three splits would stop few of
    many candidates, however bad.  `alpha` is therefore the risk of one candidate at one test, not
    that of the search.  The leader is the best of many by chance too, so of 20 equal candidates
    about one in six is out after three splits.  The leader itself is never stopped, so what
    racing can cost is a candidate that only later splits would have put in front.

    A candidate that is behind by the same amount on each split is out; one that is level with
    the leader is not.  One whose mean is NaN (a split that failed, with
    ``error_score=nan``) or minus infinity is out, as it cannot become the best.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, Inference for the Generalization Error, Machine Learning 52,
       2003, section 3 (the corrected resampled t-test).
    .. [2] R. R. Bouckaert and E. Frank, Evaluating the Replicability of Significance Tests for
       Comparing Learning Algorithms, PAKDD 2004.
    .. [3] O. Maron and A. W. Moore, Hoeffding Races, NIPS 1993.
    .. [4] M. Birattari, T. Stuetzle, L. Paquete and K. Varrentrapp, A Racing Algorithm for
       Configuring Metaheuristics, GECCO 2002.
    .. [5] M. Kuhn, Futility Analysis in the Cross-Validation of Machine Learning Models,
       arXiv:1405.6974, 2014.

    Examples
    --------
    >>> from optomatic import MongoSearchCV, Racing
    >>> MongoSearchCV(model, grid, cv=10, racing=Racing(min_splits=5))  # doctest: +SKIP
    """

    __module__ = "optomatic"  # the name in pickles and keys

    alpha: float = 0.05
    min_splits: int = 3

    def __post_init__(self) -> None:
        """Raise ValueError if `alpha` is no probability, or there are fewer than 2 splits."""
        if not (_is_a(numbers.Real, self.alpha) and 0 < self.alpha < 1):
            raise ValueError(
                f"alpha is a probability, above 0 and below 1, not {shown(self.alpha)}"
            )
        if not (_is_a(numbers.Integral, self.min_splits) and self.min_splits >= 2):
            raise ValueError(
                f"min_splits is a number of splits from 2 on, not {shown(self.min_splits)}: one "
                "score does not tell how much scores vary"
            )


def _is_a(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def losers(
    scores: Mapping[int, Sequence[float]],
    judged: Collection[int],
    ratios: Sequence[float],
    alpha: float,
) -> list[int]:
    """Return the candidates of `judged` that are out, in ascending order.

    `scores` has the scores of each candidate that is not out yet on its first splits; greater is
    better.  Each candidate is judged on all splits that it has.  `ratios` has
    ``n_test / n_train`` of each split.
    """
    found: list[int] = []
    for k in sorted({len(scores[number]) for number in judged}):
        at_k = [number for number in sorted(judged) if len(scores[number]) == k]
        rivals = np.array([scores[n][:k] for n in sorted(scores) if len(scores[n]) >= k])
        own = np.array([scores[number] for number in at_k])
        out = _is_out(own, rivals, float(np.mean(ratios[:k])), alpha)
        found += [number for number, is_out in zip(at_k, out, strict=True) if is_out]
    return sorted(found)


def leaders(scores: Mapping[int, Sequence[float]]) -> set[int]:
    """Return the candidates with the best mean over their first `k` splits, for each `k`.

    These are all that :func:`losers` compares with, as long as none of `scores` is out.
    """
    found = set()
    for k in range(1, 1 + max(map(len, scores.values()), default=0)):
        at_k = [number for number in sorted(scores) if len(scores[number]) >= k]
        found.add(at_k[int(np.argmax(_means(np.array([scores[n][:k] for n in at_k]))))])
    return found


def _is_out(own: Floats, rivals: Floats, ratio: float, alpha: float) -> npt.NDArray[np.bool_]:
    """Judge each row of `own` against the best row of `rivals`."""
    means = _means(rivals)
    best = int(np.argmax(means))
    if means[best] == -np.inf:
        return np.zeros(len(own), dtype=bool)
    hopeless = _means(own) == -np.inf
    return np.asarray(hopeless | (p_values(rivals[best], own, ratio) < alpha))


def _means(scores: Floats) -> Floats:
    """Return the mean of each row, minus infinity where it is none."""
    with np.errstate(invalid="ignore"):
        means = scores.mean(axis=1)
    return np.where(np.isnan(means), -np.inf, means)


def p_values(leader: Floats, others: Floats, ratio: float) -> Floats:
    """Return the probability of such leads over `others` if all are equally good: `Racing`.

    `others` has a row for each other candidate, `ratio` is ``n_test / n_train``.  It is 0 for a
    lead that does not vary, 1 without a lead, NaN if a score is NaN.
    """
    k = len(leader)
    with np.errstate(invalid="ignore", divide="ignore"):
        leads = leader - others
        size = np.maximum(np.abs(leader), np.abs(others))
        leads = np.where(np.abs(leads) <= _ROUNDING * size, 0.0, leads)
        t = leads.mean(axis=1) / np.sqrt((1 / k + ratio) * leads.var(axis=1, ddof=1))
    level = (leads == 0.0).all(axis=1)
    return np.where(level, 1.0, stats.t.sf(t, k - 1))
