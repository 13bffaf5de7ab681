"""Generators that sample a space: low-discrepancy sequences, and Optuna's samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats import qmc

from optomatic.keys.digest import digest_of
from optomatic.records import Evaluation


def branches_of(space: Any) -> list[dict[str, Any]]:
    """Return `space` as a list of dicts; raise TypeError or ValueError if it is none."""
    branches = [space] if isinstance(space, Mapping) else space
    if not isinstance(branches, list | tuple) or not branches:
        raise TypeError(f"a space is a dict or a list of dicts, not {space!r:.100}")
    return [_checked(branch) for branch in branches]


def _checked(branch: Any) -> dict[str, Any]:
    if not isinstance(branch, Mapping):
        raise TypeError(f"a space is a dict or a list of dicts, and {branch!r:.100} is none")
    return {str(name): _values(name, values) for name, values in branch.items()}


def _values(name: str, values: Any) -> Any:
    if hasattr(values, "rvs"):
        return values
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"the values of {name!r} are a list or a distribution, not {values!r:.100}")
    found = list(values)
    if not found:
        raise ValueError(f"the list of values of {name!r} is empty")
    return found


def is_distribution(values: Any) -> bool:
    """Return whether values are drawn, not listed."""
    return hasattr(values, "rvs")


def at_quantile(name: str, values: Any, u: float) -> Any:
    """Return the value of a param at `u`, from 0 to 1: an item of a list, or a quantile."""
    if not is_distribution(values):
        return values[min(int(u * len(values)), len(values) - 1)]
    if not hasattr(values, "ppf"):
        raise TypeError(
            f"the distribution of {name!r} has no quantiles (ppf), so points of [0, 1] cannot be "
            "translated; give one of scipy.stats, or a list of values"
        )
    value = values.ppf(u)
    return int(value) if is_discrete(values) else float(value)


def is_discrete(distribution: Any) -> bool:
    """Return whether a frozen distribution is one of integers."""
    return hasattr(getattr(distribution, "dist", None), "_pmf")


def point_to_candidate(branches: Sequence[Mapping[str, Any]], point: Any) -> dict[str, Any]:
    """Return the candidate at a point, whose first coordinate chooses among several branches."""
    coordinates = [float(u) for u in np.clip(point, 1e-12, 1 - 1e-12)]
    first = 0
    if len(branches) > 1:
        first = min(int(coordinates.pop(0) * len(branches)), len(branches) - 1)
    branch = branches[first]
    return {
        name: at_quantile(name, values, u)
        for (name, values), u in zip(branch.items(), coordinates, strict=False)
    }


def dimensions(branches: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of coordinates that :func:`point_to_candidate` needs."""
    return max(1, max(map(len, branches)) + (len(branches) > 1))


#: Points drawn at once; Sobol' points are even in powers of two.
_BATCH = 64


class QuasiRandom:
    """Endless candidates from a low-discrepancy sequence of :mod:`scipy.stats.qmc`.

    Parameters
    ----------
    space : dict or list of dict
        Lists of values, and distributions of scipy (by their quantiles).  If it is a list,
        each candidate has the params of one dict.
    method : {"sobol", "halton"}, default="sobol"
    seed : int, default=None
        Seed of the scrambling.  None draws other candidates each time.

    Raises
    ------
    TypeError
        If `space` is no dict or list of dicts, or a param has neither a list of values nor a
        distribution.
    ValueError
        If a list of values is empty, or `method` is unknown.

    Notes
    -----
    Each iteration starts again, so equal seeds give equal candidates.  The search must end
    otherwise: by ``n_iter``, for Sobol' best a power of two, ``time_budget``, ``target_score`` or
    ``n_no_improve``.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> points = iter(QuasiRandom({"C": loguniform(1e-2, 1e2), "kernel": ["rbf", "poly"]}, seed=0))
    >>> sorted(next(points))
    ['C', 'kernel']
    """

    __module__ = "optomatic.generators"  # the name in pickles and keys

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
        """Yield candidates without end.

        Raises
        ------
        TypeError
            If a distribution has no quantiles (``ppf``).
        ValueError
            If Sobol' points would have more than 21,201 dimensions.
        """
        engine = qmc.Sobol if self.method == "sobol" else qmc.Halton
        sequence = engine(dimensions(self._branches), seed=self.seed)
        while True:
            for point in sequence.random(_BATCH):
                yield point_to_candidate(self._branches, point)

    def __repr__(self) -> str:
        return f"QuasiRandom({self.space!r}, method={self.method!r}, seed={self.seed!r})"


# A space in Optuna's terms.  Lists of values are categories.  scipy's distributions ``uniform``,
# ``loguniform`` and ``randint`` are translated exactly; for all others Optuna suggests a quantile.


#: Kinds of values that Optuna takes; others go by their place in the list.
_PLAIN = (type(None), bool, int, float, str)
#: Bounds of quantiles; values at 0 and 1 may be infinite.
_LEAST, _MOST = 1e-9, 1 - 1e-9
_BRANCH = "(branch)"
_WHOLE = (int, np.integer)
_REAL = (*_WHOLE, float, np.floating)


#: Suggested values by label, and the distributions of them.
Suggested = tuple[dict[str, Any], dict[str, Any]]


def optuna_module() -> Any:
    """Return Optuna, which is imported only when it is used."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "This needs Optuna, which is not installed. Nothing was scored or changed. "
            'Install it with: pip install "optomatic[optuna]"'
        ) from error
    return optuna


def suggest_candidate(trial: Any, branches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the candidate that `trial` suggests: one of the branches, then its params."""
    several = len(branches) > 1
    number = trial.suggest_categorical(_BRANCH, range(len(branches))) if several else 0
    return {
        name: _suggest(trial, _label(number, name, several), name, values)
        for name, values in branches[number].items()
    }


def as_suggested(
    candidate: Mapping[str, Any], branches: Sequence[Mapping[str, Any]]
) -> Suggested | None:
    """Return the content of a trial that suggests `candidate`, None if no branch can."""
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
    """Return the distribution from which :func:`_suggest` draws."""
    kinds = optuna_module().distributions
    if not is_distribution(values):
        return kinds.CategoricalDistribution(values if _is_plain(values) else range(len(values)))
    return exact_distribution(values) or kinds.FloatDistribution(_LEAST, _MOST)


def exact_distribution(values: Any) -> Any:
    """Return Optuna's distribution that equals one of scipy; None if there is none."""
    kinds, exact = optuna_module().distributions, _exact(values)
    if exact == "randint":
        return kinds.IntDistribution(*_bounds(values, int))
    if exact is not None:
        return kinds.FloatDistribution(*_bounds(values, float), log=exact == "loguniform")
    return None


def _from_list(values: Sequence[Any], value: Any) -> tuple[Any] | None:
    """Return, in a tuple, the suggestion for `value`, None if it is not in `values`.

    Values are equal in type and content: ``1`` is not ``1.0``.
    """
    wanted = digest_of(value).hex
    place = next((n for n, v in enumerate(values) if digest_of(v).hex == wanted), None)
    if place is None:
        return None
    return (values[place] if _is_plain(values) else place,)


def _from_distribution(values: Any, value: Any) -> tuple[Any] | None:
    """Return, in a tuple, the suggestion for `value`, None if it is never drawn."""
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
    """Return the name of a distribution of scipy that Optuna has too."""
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


class OptunaGenerator:
    """Candidates of a sampler of Optuna: TPE, GP, CMA-ES, NSGA-II and all others.

    Parameters
    ----------
    space : dict or list of dict
        Lists of values are categories.  scipy's distributions ``uniform``, ``loguniform`` and
        ``randint`` are translated exactly; for all others the sampler chooses a quantile.  From
        a list of dicts it chooses one, and then the params of that.
    sampler : optuna.samplers.BaseSampler, default=None
        With its own seed.  The default is Optuna's default sampler, unseeded.

    Raises
    ------
    TypeError
        If `space` is no dict or list of dicts, or a param has neither a list of values nor a
        distribution.
    ValueError
        If a list of values is empty.

    Notes
    -----
    ``pip install "optomatic[optuna]"`` installs Optuna.  Only its samplers are used: scores are
    in the store, and the study is in memory.

    Candidates and their numbers in a sequential search are those of ``study.optimize`` with the
    same sampler.  With several workers other candidates are in flight at each ask;
    ``TPESampler(constant_liar=True)`` takes them into account.

    With ``warm_start`` the study begins with scores of earlier searches, as by
    ``study.add_trial``, as far as their values are in `space`.

    Several metrics need a sampler for several (NSGA-II, TPE), and ``direction=`` of the search as
    a dict of metrics.

    ``GridSampler`` and ``BruteForceSampler`` end with the space.  All others propose for ever,
    repeats included, so the search must end otherwise: by ``n_iter``, ``time_budget``,
    ``target_score`` or ``n_no_improve``.

    Examples
    --------
    >>> from optuna.samplers import TPESampler  # doctest: +SKIP
    >>> OptunaGenerator({"C": loguniform(1e-2, 1e2)}, TPESampler(seed=0))  # doctest: +SKIP
    """

    __module__ = "optomatic.generators"  # the name in pickles and keys

    def __init__(self, space: Any, sampler: Any = None) -> None:
        self.space = space
        self.sampler = sampler
        self._branches = branches_of(space)
        self._directions: dict[str, str] = {}
        self._trials: list[Any] = []
        self._study: Any = None

    @property
    def endless(self) -> bool:
        """Return whether the sampler never ends by itself."""
        if self.sampler is None:
            return True
        samplers = optuna_module().samplers
        return not isinstance(self.sampler, samplers.GridSampler | samplers.BruteForceSampler)

    def begin(self, directions: Mapping[str, str]) -> None:
        """Start a study for these directions.

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
        self._study.stop = self._stop  # Optuna's own raises outside its loop

    def _stop(self) -> None:
        self._is_through = True

    def ask(self, n: int) -> list[dict[str, Any]]:
        """Return `n` candidates; none if the sampler has ended.

        Raises
        ------
        TypeError
            If a distribution that Optuna does not have has no quantiles (``ppf``).
        Exception
            Any error of the sampler.
        """
        return [] if self._is_through else [self._ask() for _ in range(n)]

    def _ask(self) -> dict[str, Any]:
        trial = self._study.ask()
        self._trials.append(trial)
        return suggest_candidate(trial, self._branches)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Add scores to the study, or that a candidate failed or was left out."""
        for evaluation in evaluations:
            self._tell(self._trials[evaluation.number], evaluation)

    def _tell(self, trial: Any, evaluation: Evaluation) -> None:
        values = self._values(evaluation)
        if values is not None:
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=optuna_module().trial.TrialState.FAIL)

    def _values(self, evaluation: Evaluation) -> list[float] | None:
        """Return the score for each direction, None if one is missing."""
        scores = evaluation.scores
        if len(self._directions) == 1 and len(scores) >= 1:
            (metric,) = self._directions
            values = [scores.get(metric, next(iter(scores.values())))]
        else:
            values = [scores[metric] for metric in self._directions if metric in scores]
        complete = len(values) == len(self._directions) and not any(v != v for v in values)
        # For a candidate that racing stopped, a sampler learns more from the mean over fewer
        # splits than from a pruned trial, which most samplers ignore.
        return values if complete and evaluation.state in ("completed", "stopped") else None

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        """Add trials of earlier searches to the study; return how many are in the space."""
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
