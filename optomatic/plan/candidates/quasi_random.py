"""Candidates that fill a space more evenly than independent draws do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from scipy.stats import qmc

from optomatic.plan.candidates.space import branches_of, dimensions, point_to_candidate

#: Points that are drawn at once: Sobol' points are even in powers of two.
_BATCH = 64


class QuasiRandom:
    """Endless candidates from a low-discrepancy sequence of :mod:`scipy.stats.qmc`.

    Parameters
    ----------
    space : dict or list of dict
        Lists of values, and distributions of scipy (by their quantiles).  Of a list of
        dicts each candidate has the params of one.
    method : {"sobol", "halton"}, default="sobol"
    seed : int, default=None
        Of the scrambling.  None draws other candidates each time.

    Raises
    ------
    TypeError
        If `space` is no dict or list of dicts, or a param has neither a list of values nor a
        distribution.
    ValueError
        If a list of values is empty, or `method` is another one.

    Notes
    -----
    It is an iterable that starts anew each time, so that equal seeds give equal candidates.
    A search needs an end of its own: ``n_iter``, for Sobol' best a power of two,
    ``time_budget``, ``target_score`` or ``n_no_improve``.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> points = iter(QuasiRandom({"C": loguniform(1e-2, 1e2), "kernel": ["rbf", "poly"]}, seed=0))
    >>> sorted(next(points))
    ['C', 'kernel']
    """

    __module__ = "optomatic.generators"  # where pickles and keys look for it, wherever it stands

    endless = True

    def __init__(
        self, space: Any, *, method: Literal["sobol", "halton"] = "sobol", seed: int | None = None
    ) -> None:
        if method not in ("sobol", "halton"):
            raise ValueError(f"method is 'sobol' or 'halton', not {method!r}")
        self.space = space
        self.method = method
        self.seed = seed
        self._branches = branches_of(space)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give candidates, without end.

        Raises
        ------
        TypeError
            If a distribution has no quantiles (``ppf``).
        ValueError
            If Sobol' points are to have more dimensions than there are (21,201).
        """
        engine = qmc.Sobol if self.method == "sobol" else qmc.Halton
        sequence = engine(dimensions(self._branches), seed=self.seed)
        while True:
            for point in sequence.random(_BATCH):
                yield point_to_candidate(self._branches, point)

    def __repr__(self) -> str:
        return f"QuasiRandom({self.space!r}, method={self.method!r}, seed={self.seed!r})"
