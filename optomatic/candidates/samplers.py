"""Generators that draw from a space: low-discrepancy sequences, and Optuna's samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats import qmc

from optomatic.candidates.space import (
    at_quantile,
    branches_of,
    dimensions,
    is_discrete,
    is_distribution,
    point_to_candidate,
)
from optomatic.keys.digest import digest_of
from optomatic.records import Evaluation

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


# A space in Optuna's terms: how a trial suggests a candidate, and what would have suggested it.
#
# Lists of values are categories.  Of scipy's distributions ``uniform``, ``loguniform`` and
# ``randint`` are translated exactly; of all others the quantile is suggested.


#: Of these Optuna takes values as they are; others go by their place in the list.
_PLAIN = (type(None), bool, int, float, str)
#: The quantiles that are suggested; at those of 0 and 1 a value may be infinite.
_LEAST, _MOST = 1e-9, 1 - 1e-9
_BRANCH = "(branch)"
_WHOLE = (int, np.integer)
_REAL = (*_WHOLE, float, np.floating)


#: What a trial suggested by label, and the distributions that it is from.
Suggested = tuple[dict[str, Any], dict[str, Any]]


def optuna_module() -> Any:
    """Return Optuna, which is imported when it is used.

    Raises
    ------
    ImportError
        If it is not installed, with what to do.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "OptunaGenerator needs Optuna, which is not installed. Nothing was scored. "
            'Install it with: pip install "optomatic[optuna]"'
        ) from error
    return optuna


def suggest_candidate(trial: Any, branches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the candidate that `trial` suggests: first one of the branches, then its params."""
    several = len(branches) > 1
    number = trial.suggest_categorical(_BRANCH, range(len(branches))) if several else 0
    return {
        name: _suggest(trial, _label(number, name, several), name, values)
        for name, values in branches[number].items()
    }


def as_suggested(
    candidate: Mapping[str, Any], branches: Sequence[Mapping[str, Any]]
) -> Suggested | None:
    """Return what a trial holds that suggests `candidate`; None if none of the branches can."""
    several = len(branches) > 1
    for number, branch in enumerate(branches):
        found = _inverted(candidate, branch) if set(branch) == set(candidate) else None
        if found is None:
            continue
        params = {_label(number, name, several): value for name, value in found.items()}
        distributions = {
            _label(number, name, several): _distribution(values) for name, values in branch.items()
        }
        if several:
            params[_BRANCH] = number
            distributions[_BRANCH] = _distribution(list(range(len(branches))))
        return params, distributions
    return None


def _label(number: int, name: str, several: bool) -> str:
    return f"{number}:{name}" if several else name


def _inverted(candidate: Mapping[str, Any], branch: Mapping[str, Any]) -> dict[str, Any] | None:
    found = {}
    for name, values in branch.items():
        of = _from_distribution if is_distribution(values) else _from_list
        suggested = of(values, candidate[name])
        if suggested is None:
            return None
        (found[name],) = suggested
    return found


def _suggest(trial: Any, label: str, name: str, values: Any) -> Any:
    if not is_distribution(values):
        if _is_plain(values):
            return trial.suggest_categorical(label, values)
        return values[trial.suggest_categorical(label, range(len(values)))]
    exact = _exact(values)
    if exact == "randint":
        return int(trial.suggest_int(label, *_bounds(values, int)))
    if exact is not None:
        return float(trial.suggest_float(label, *_bounds(values, float), log=exact == "loguniform"))
    return at_quantile(name, values, trial.suggest_float(label, _LEAST, _MOST))


def _distribution(values: Any) -> Any:
    """Return what :func:`_suggest` has Optuna draw from."""
    kinds = optuna_module().distributions
    if not is_distribution(values):
        return kinds.CategoricalDistribution(values if _is_plain(values) else range(len(values)))
    exact = _exact(values)
    if exact == "randint":
        return kinds.IntDistribution(*_bounds(values, int))
    if exact is not None:
        return kinds.FloatDistribution(*_bounds(values, float), log=exact == "loguniform")
    return kinds.FloatDistribution(_LEAST, _MOST)


def _from_list(values: Sequence[Any], value: Any) -> tuple[Any] | None:
    """Return, in a tuple, what is suggested for `value`; None if it is none of `values`.

    Equal are values of equal type and content: ``1`` is not ``1.0``.
    """
    wanted = digest_of(value).hex
    place = next((n for n, v in enumerate(values) if digest_of(v).hex == wanted), None)
    if place is None:
        return None
    return (values[place] if _is_plain(values) else place,)


def _from_distribution(values: Any, value: Any) -> tuple[Any] | None:
    """Return, in a tuple, what is suggested for `value`; None if it is never drawn."""
    whole = is_discrete(values)
    if not isinstance(value, _WHOLE if whole else _REAL) or type(value) is bool:
        return None
    low, high = values.support()
    if not low <= value <= high:
        return None
    if _exact(values) is None:
        return (min(max(float(values.cdf(value)), _LEAST), _MOST),)
    return (int(value) if whole else float(value),)


def _is_plain(values: Sequence[Any]) -> bool:
    return all(type(value) in _PLAIN for value in values)


def _exact(values: Any) -> str | None:
    """Return the name of a distribution of scipy's that Optuna has too."""
    exact = _SAME.get(getattr(getattr(values, "dist", None), "name", ""))
    return exact if exact is not None and len(values.args) + len(values.kwds) > 0 else None


_SAME = {
    "uniform": "uniform",
    "loguniform": "loguniform",
    "reciprocal": "loguniform",
    "randint": "randint",
}


def _bounds(values: Any, kind: Callable[[Any], Any]) -> tuple[Any, Any]:
    low, high = values.support()
    return kind(low), kind(high)


# Optuna's samplers as generators: TPE, GP, CMA-ES, NSGA-II and all others.
#
# Optuna is imported when it is used; ``pip install "optomatic[optuna]"`` brings it.  Of Optuna
# only the samplers are used: scores are kept in the store, and the study lives in memory.


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

    Raises
    ------
    TypeError
        If `space` is no dict or list of dicts, or a param has neither a list of values nor a
        distribution.
    ValueError
        If a list of values is empty.

    Notes
    -----
    Candidates and numbers of a sequential search are those of ``study.optimize`` with the same
    sampler.  With several workers candidates are in flight when new ones are asked for;
    ``TPESampler(constant_liar=True)`` takes them into account.

    With ``warm_start`` the study begins with scores of earlier searches, as by ``study.add_trial``;
    those whose values are not in `space` are left out.

    Several metrics need a sampler that knows several (NSGA-II, TPE), and ``direction=`` of the
    search as a dict of metrics.

    ``GridSampler`` and ``BruteForceSampler`` end once they have been through the space.  All others
    propose for ever, repeats included, so a search over them needs an end of its own: ``n_iter``,
    ``time_budget``, ``target_score`` or ``n_no_improve``.

    Examples
    --------
    >>> from optuna.samplers import TPESampler  # doctest: +SKIP
    >>> OptunaGenerator({"C": loguniform(1e-2, 1e2)}, TPESampler(seed=0))  # doctest: +SKIP
    """

    __module__ = "optomatic.generators"  # where pickles and keys look for it, wherever it stands

    def __init__(self, space: Any, sampler: Any = None) -> None:
        self.space = space
        self.sampler = sampler
        self._branches = branches_of(space)
        self._directions: dict[str, str] = {}
        self._trials: list[Any] = []
        self._study: Any = None

    @property
    def endless(self) -> bool:
        """Whether the sampler never ends by itself."""
        if self.sampler is None:
            return True
        samplers = optuna_module().samplers
        return not isinstance(self.sampler, samplers.GridSampler | samplers.BruteForceSampler)

    def begin(self, directions: Mapping[str, str]) -> None:
        """Make the study: what is sought is known now.

        Raises
        ------
        ImportError
            If Optuna is not installed.
        """
        optuna = optuna_module()
        self._directions = dict(directions)
        self._study = optuna.create_study(
            sampler=self.sampler, directions=list(directions.values())
        )
        self._is_through = False
        self._study.stop = self._stop  # Optuna's own raises where it does not run the loop

    def _stop(self) -> None:
        self._is_through = True

    def ask(self, n: int) -> list[dict[str, Any]]:
        """Return `n` candidates; none if the sampler has ended.

        Raises
        ------
        TypeError
            If a distribution that Optuna has not has no quantiles (``ppf``).
        Exception
            Whatever the sampler raises.
        """
        return [] if self._is_through else [self._ask() for _ in range(n)]

    def _ask(self) -> dict[str, Any]:
        trial = self._study.ask()
        self._trials.append(trial)
        return suggest_candidate(trial, self._branches)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Tell the study: scores, or that a candidate has failed or was left out."""
        for evaluation in evaluations:
            self._tell(self._trials[evaluation.number], evaluation)

    def _tell(self, trial: Any, evaluation: Evaluation) -> None:
        values = self._values(evaluation)
        if values is not None:
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=optuna_module().trial.TrialState.FAIL)

    def _values(self, evaluation: Evaluation) -> list[float] | None:
        """Return the score for each direction; None unless there are all."""
        scores = evaluation.scores
        if len(self._directions) == 1 and len(scores) >= 1:
            (metric,) = self._directions
            values = [scores.get(metric, next(iter(scores.values())))]
        else:
            values = [scores[metric] for metric in self._directions if metric in scores]
        complete = len(values) == len(self._directions) and not any(v != v for v in values)
        # Of one that racing stopped, the mean over fewer splits says more to a sampler than
        # that it was pruned: most samplers learn nothing from that.
        return values if complete and evaluation.state in ("completed", "stopped") else None

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        """Add trials of earlier searches to the study; return how many of them are in the space."""
        create_trial = optuna_module().trial.create_trial
        used = 0
        for evaluation in evaluations:
            values = self._values(evaluation)
            suggested = as_suggested(evaluation.params, self._branches)
            if values is not None and suggested is not None:
                params, distributions = suggested
                self._study.add_trial(
                    create_trial(params=params, distributions=distributions, values=values)
                )
                used += 1
        return used

    def __repr__(self) -> str:
        return f"OptunaGenerator({self.space!r}, {self.sampler!r})"
