"""Optuna's samplers as generators: TPE, GP, CMA-ES, NSGA-II and all others.

Optuna is imported when it is used; ``pip install "optomatic[optuna]"`` brings it.  Of Optuna
only the samplers are used: scores are kept in the store, and the study lives in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optomatic.plan.candidates.optuna_space import as_suggested, optuna_module, suggest_candidate
from optomatic.plan.candidates.space import branches_of
from optomatic.records import Evaluation


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
