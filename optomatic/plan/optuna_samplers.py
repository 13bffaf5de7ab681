"""Optuna's samplers as generators: TPE, GP, CMA-ES, NSGA-II and all others.

Optuna is imported when it is used; ``pip install "optomatic[optuna]"`` brings it.  Of Optuna
only the samplers are used: scores are kept in the store, and the study lives in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optomatic.plan.space import at_quantile, branches_of, is_discrete, is_distribution
from optomatic.records import Evaluation

#: Of these Optuna takes values as they are; others go by their place in the list.
_PLAIN = (type(None), bool, int, float, str)
_BRANCH = "(branch)"


class OptunaGenerator:
    """Asks a sampler of Optuna, and tells it what came of its candidates.

    Parameters
    ----------
    space : dict or list of dict
        Lists of values are categories.  Of scipy's distributions ``uniform``, ``loguniform``
        and ``randint`` are translated exactly; of all others the sampler chooses a
        quantile.  Of a list of dicts it chooses one first, and then the params of that.
    sampler : optuna.samplers.BaseSampler, default=None
        With its own seed; Optuna's default sampler, unseeded, if not given.

    Notes
    -----
    Candidates and numbers of a sequential search are those of ``study.optimize`` with the same
    sampler.  With several workers candidates are in flight when new ones are asked for;
    ``TPESampler(constant_liar=True)`` takes them into account.

    Several metrics need a sampler that knows several (NSGA-II, TPE), and ``direction=`` of the
    search as a dict of metrics.

    Examples
    --------
    >>> from optuna.samplers import TPESampler  # doctest: +SKIP
    >>> OptunaGenerator({"C": loguniform(1e-2, 1e2)}, TPESampler(seed=0))  # doctest: +SKIP
    """

    def __init__(self, space: Any, sampler: Any = None) -> None:
        self.space = space
        self.sampler = sampler
        self._branches = branches_of(space)
        self._directions: dict[str, str] = {}
        self._trials: list[Any] = []
        self._study: Any = None

    def begin(self, directions: Mapping[str, str]) -> None:
        """Make the study: what is sought is known now."""
        optuna = _optuna()
        self._directions = dict(directions)
        self._study = optuna.create_study(
            sampler=self.sampler, directions=list(directions.values())
        )

    def ask(self, n: int) -> list[dict[str, Any]]:
        """Return `n` candidates."""
        return [self._ask() for _ in range(n)]

    def _ask(self) -> dict[str, Any]:
        trial = self._study.ask()
        self._trials.append(trial)
        several = len(self._branches) > 1
        number = trial.suggest_categorical(_BRANCH, range(len(self._branches))) if several else 0
        prefix = f"{number}:" if several else ""
        return {
            name: _suggest(trial, prefix + name, name, values)
            for name, values in self._branches[number].items()
        }

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Tell the study: scores, or that a candidate has failed or was left out."""
        for evaluation in evaluations:
            self._tell(self._trials[evaluation.number], evaluation)

    def _tell(self, trial: Any, evaluation: Evaluation) -> None:
        scores = evaluation.scores
        if len(self._directions) == 1 and len(scores) >= 1:
            (metric,) = self._directions
            values = [scores.get(metric, next(iter(scores.values())))]
        else:
            values = [scores[metric] for metric in self._directions if metric in scores]
        complete = len(values) == len(self._directions) and not any(v != v for v in values)
        # Of one that racing stopped, the mean over fewer splits says more to a sampler than
        # that it was pruned: most samplers learn nothing from that.
        if complete and evaluation.state in ("completed", "stopped"):
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=_optuna().trial.TrialState.FAIL)

    def __repr__(self) -> str:
        return f"OptunaGenerator({self.space!r}, {self.sampler!r})"


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "OptunaGenerator needs Optuna, which is not installed. Nothing was scored. "
            'Install it with: pip install "optomatic[optuna]"'
        ) from error
    return optuna


def _suggest(trial: Any, label: str, name: str, values: Any) -> Any:
    if not is_distribution(values):
        if all(type(value) in _PLAIN for value in values):
            return trial.suggest_categorical(label, values)
        return values[trial.suggest_categorical(label, range(len(values)))]
    exact = _TRANSLATED.get(getattr(getattr(values, "dist", None), "name", ""))
    if exact is not None and len(values.args) + len(values.kwds) > 0:
        return exact(trial, label, values)
    return at_quantile(name, values, trial.suggest_float(label, 1e-9, 1 - 1e-9))


def _uniform(trial: Any, label: str, values: Any) -> float:
    low, high = values.support()
    return float(trial.suggest_float(label, float(low), float(high)))


def _loguniform(trial: Any, label: str, values: Any) -> float:
    low, high = values.support()
    return float(trial.suggest_float(label, float(low), float(high), log=True))


def _randint(trial: Any, label: str, values: Any) -> int:
    assert is_discrete(values)
    low, high = values.support()
    return int(trial.suggest_int(label, int(low), int(high)))


_TRANSLATED = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "reciprocal": _loguniform,
    "randint": _randint,
}
