"""Asynchronous successive halving: a candidate goes on as soon as it is among the best.

The rule is that of ASHA (Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys
2020, algorithm 2).  Rung k gives ``min_resources * factor**k`` to each of its candidates.  The
best ``1 / factor`` of those that have ended in a rung may enter the next one.  A free worker
serves the highest rung with such a candidate; without one, a new candidate enters the lowest.
"""

from __future__ import annotations

import bisect
import copy
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optomatic.records import Evaluation


@dataclass(slots=True)
class Rung:
    """The candidates that have ended in a rung, and those that were promoted.

    They are ranked by (-score, number): the best first, and the earlier one of equal scores.
    """

    resources: int
    ended: dict[int, dict[str, Any]] = field(default_factory=dict)
    promoted: set[int] = field(default_factory=set)
    ranks: list[tuple[float, int]] = field(default_factory=list)
    waiting: list[tuple[float, int]] = field(default_factory=list)

    def end(self, score: float, number: int, candidate: dict[str, Any]) -> None:
        """Note a candidate that has ended."""
        self.ended[number] = candidate
        bisect.insort(self.ranks, (-score, number))
        heapq.heappush(self.waiting, (-score, number))

    def promotable(self, factor: int) -> tuple[int, dict[str, Any]] | None:
        """Return the best candidate that may go on and has not, None if there is none."""
        while self.waiting and self.waiting[0][1] in self.promoted:
            heapq.heappop(self.waiting)
        if not self.waiting:
            return None
        rank, number = bisect.bisect_left(self.ranks, self.waiting[0]), self.waiting[0][1]
        return (number, self.ended[number]) if rank < len(self.ended) // factor else None


#: The name in pickles; set here, as dataclass reads the module.
Rung.__module__ = "optomatic.generators"


class AsyncHalving:
    """ASHA over an integer param, with candidates from any iterable.

    Parameters
    ----------
    candidates : iterable of dict
        New candidates: a ParameterSampler, :class:`QuasiRandom`, a list.  If it is endless, give
        the search ``n_iter``, which counts each (candidate, rung), or ``time_budget``,
        ``target_score`` or ``n_no_improve``.
    resource : str
        The param that limits a candidate; candidates themselves do not have it.
    min_resources, max_resources : int
        Its value in the lowest rung, and its upper bound.
    factor : int, default=3
        Each rung has so many times the resources of the one below; one candidate in `factor` goes
        on.

    Raises
    ------
    ValueError
        If `min_resources` is not from 1 to `max_resources`, or `factor` is no int from 2 on.

    Notes
    -----
    The best score of the search may belong to a low rung.  To compare scores, take those with
    the largest `resource` in ``results_`` or ``cv_results_``.

    With ``warm_start`` candidates of earlier searches with the resources of a rung count as ended
    there, so the best of them may go on.
    """

    __module__ = "optomatic.generators"  # the name in pickles and keys

    def __init__(
        self,
        candidates: Iterable[Mapping[str, Any]],
        *,
        resource: str,
        min_resources: int,
        max_resources: int,
        factor: int = 3,
    ) -> None:
        if not 1 <= min_resources <= max_resources:
            raise ValueError(
                f"min_resources is from 1 to max_resources, not {min_resources!r} of "
                f"{max_resources!r}"
            )
        if not (isinstance(factor, int) and factor >= 2):
            raise ValueError(f"factor is a whole number from 2 on, not {factor!r}")
        self.candidates = candidates
        self.resource = resource
        self.min_resources = min_resources
        self.max_resources = max_resources
        self.factor = factor

    @property
    def endless(self) -> bool:
        """Return whether new candidates never end."""
        return getattr(self.candidates, "endless", False) is True

    def begin(self, directions: Mapping[str, str]) -> None:
        """Start again, with this direction.

        Raises
        ------
        TypeError
            If `candidates` is not iterable.
        """
        ((self._metric, direction), *_) = directions.items()
        self._sign = -1.0 if direction == "minimize" else 1.0
        steps = math.floor(math.log(self.max_resources / self.min_resources, self.factor) + 1e-9)
        self._rungs = [Rung(self.min_resources * self.factor**k) for k in range(steps + 1)]
        self._new: Iterator[Mapping[str, Any]] = iter(copy.copy(self.candidates))
        self._asked: list[tuple[int, dict[str, Any]]] = []

    def ask(self, n: int) -> list[dict[str, Any]]:
        """Return up to `n` candidates, promoted ones before new ones.

        Raises
        ------
        ValueError
            If a candidate has the param that is the resource.
        Exception
            Any error of `candidates`.
        """
        found = (self._next() for _ in range(n))
        return [candidate for candidate in found if candidate is not None]

    def _next(self) -> dict[str, Any] | None:
        for k in range(len(self._rungs) - 2, -1, -1):
            promotable = self._rungs[k].promotable(self.factor)
            if promotable is not None:
                number, candidate = promotable
                self._rungs[k].promoted.add(number)
                return self._enter(k + 1, candidate)
        fresh = next(self._new, None)
        return None if fresh is None else self._enter(0, dict(fresh))

    def _enter(self, rung: int, candidate: dict[str, Any]) -> dict[str, Any]:
        if self.resource in candidate:
            raise ValueError(f"{self.resource!r} is the resource, so no candidate may have it")
        self._asked.append((rung, candidate))
        return {**candidate, self.resource: self._rungs[rung].resources}

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Note candidates that have ended; one without a score is never promoted."""
        for evaluation in evaluations:
            rung, candidate = self._asked[evaluation.number]
            self._rungs[rung].end(self._score(evaluation), evaluation.number, candidate)

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        """Note candidates of earlier searches that fit a rung; return how many do."""
        used = 0
        for evaluation in evaluations:
            candidate = dict(evaluation.params)
            resources = candidate.pop(self.resource, None)
            for rung in (rung for rung in self._rungs if rung.resources == resources):
                rung.end(self._score(evaluation), evaluation.number, candidate)
                used += 1
        for low, high in itertools.pairwise(self._rungs):
            gone_on = list(high.ended.values())
            low.promoted.update(n for n, candidate in low.ended.items() if candidate in gone_on)
        return used

    def _score(self, evaluation: Evaluation) -> float:
        scores = evaluation.scores
        score = scores.get(self._metric, next(iter(scores.values()), math.nan))
        return -math.inf if math.isnan(score) else self._sign * score

    def __repr__(self) -> str:
        return (
            f"AsyncHalving({self.candidates!r:.200}, resource={self.resource!r}, "
            f"min_resources={self.min_resources}, max_resources={self.max_resources}, "
            f"factor={self.factor})"
        )
