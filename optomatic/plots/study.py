"""A search as a study of Optuna.

A complete candidate is a ``COMPLETE`` trial, a failed one ``FAIL``, and one that is being scored
``RUNNING``; one that waits, or was cancelled, is ``WAITING``.  One that a race stopped, or that
halving left on a lower rung, is ``PRUNED``.  Candidates that a filter left out are no trials.

Intermediate values are the means over the first splits, or the scores on the rungs of halving.
User attributes are the number of the candidate, its state, and its means by all metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from optomatic.candidates.samplers import (
    branches_of,
    exact_distribution,
    is_distribution,
    optuna_module,
)
from optomatic.planning.params import plain
from optomatic.plots.search_data import SearchData, Stored, data_of, is_number, is_spread

#: Categories that Optuna takes; of all others it gets the text.
_PLAIN = (type(None), bool, int, float, str)


def study_of(stored: Stored, metric: str | None, storage: Any) -> Any:
    """Return a study with the candidates of a search as trials."""
    optuna = optuna_module()
    data = data_of(stored, metric)
    params = {name: _Suggested(name, data, stored.space) for name in data.params}
    rows = [int(n) for n in np.flatnonzero(data.latest & (data.states != "left out"))]
    direction = "minimize" if data.minimize else "maximize"
    study = optuna.create_study(storage=storage, study_name=data.name, direction=direction)
    values = _intermediate(data)
    study.add_trials([_trial(data, n, params, values[n]) for n in rows])
    return study


class _Suggested:
    """A param with its distribution: that of the space if Optuna has it, else by the values."""

    def __init__(self, name: str, data: SearchData, space: Any) -> None:
        kinds = optuna_module().distributions
        known = [own[name] for own in data.candidates if name in own]
        given = [branch[name] for branch in _branches(space) if name in branch]
        listed = [plain(v) for values in given if not is_distribution(values) for v in values]
        known += [value for value in listed if type(value) in _PLAIN]
        exact = exact_distribution(given[0]) if len(given) == 1 else None
        self._texts: Any = None
        if all(map(is_number, known)):
            low, high = min(known), max(known)
            if exact is not None and exact.low <= low and high <= exact.high:
                self.distribution = exact
                return
            whole = all(type(value) is int for value in known)
            kind = kinds.IntDistribution if whole else kinds.FloatDistribution
            is_log = is_spread(np.unique(np.array(known, dtype=float)))
            self.distribution = kind(low, high, log=is_log)
            return
        choices = {(type(v), repr(v)): v for v in known}
        own = list(choices.values())
        # Optuna finds a category by ==, so 1 and True would be one.
        plain_ones = all(type(v) in _PLAIN and v == v for v in own)
        if not plain_ones or len(set(own)) < len(own):
            self._texts = repr
            own = [repr(v) for v in own]
        self.distribution = kinds.CategoricalDistribution(own)

    def of(self, value: Any) -> Any:
        """Return the value as it is in the distribution."""
        return value if self._texts is None else self._texts(value)


def _branches(space: Any) -> Sequence[Mapping[str, Any]]:
    try:
        return list(branches_of(space))
    except (TypeError, ValueError):  # a generator or an iterable, or text only
        return ()


def _intermediate(data: SearchData) -> list[dict[int, float]]:
    """Return the intermediate values of each candidate."""
    if data.rung is not None:
        got: dict[str, dict[int, float]] = {}
        keys = data.identities()
        for key, resources, score in zip(keys, data.resources, data.drawn_scores, strict=True):
            if np.isfinite(score):
                got.setdefault(key, {})[int(resources)] = float(score)
        return [got.get(key, {}) for key in keys]
    scores = data.split_scores
    if scores.shape[1] < 2:
        return [{} for _ in scores]
    means = np.cumsum(scores, axis=1) / np.arange(1, scores.shape[1] + 1)
    return [
        {split + 1: float(mean) for split, mean in enumerate(own) if np.isfinite(mean)}
        for own in means
    ]


def _trial(
    data: SearchData, n: int, params: dict[str, _Suggested], intermediate: dict[int, float]
) -> Any:
    state = _state(data, n)
    states = optuna_module().trial.TrialState
    began, ended = _moments(data, n)
    own = {name: params[name].of(value) for name, value in data.candidates[n].items()}
    metrics = {f"mean_test_{name}": float(scores[n]) for name, scores in data.metrics.items()}
    there = {name: value for name, value in metrics.items() if np.isfinite(value)}
    has_value = state in (states.COMPLETE, states.PRUNED) and np.isfinite(data.scores[n])
    return optuna_module().trial.FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=float(data.scores[n]) if has_value else None,
        datetime_start=None if state == states.WAITING else began,
        datetime_complete=ended if state.is_finished() else None,
        params=own,
        distributions={name: params[name].distribution for name in own},
        user_attrs={"candidate": n, "state": str(data.states[n]), **there},
        system_attrs={},
        intermediate_values=intermediate,
    )


def _state(data: SearchData, n: int) -> Any:
    states = optuna_module().trial.TrialState
    kind = data.kinds[n]
    if kind == "failed":
        return states.FAIL
    left = data.rung is not None and data.rung[n] < data.rung.max()
    if data.states[n] == "stopped" or (left and kind == "complete"):
        return states.PRUNED
    if kind == "complete":
        return states.COMPLETE
    at_work = np.isin(data.split_states[n], ("running", "completed", "failed", "dead")).any()
    return states.RUNNING if data.states[n] == "pending" and at_work else states.WAITING


def _moments(data: SearchData, n: int) -> tuple[datetime, datetime]:
    """Return when a candidate began and ended, in local time without a zone, as Optuna has it."""
    began = np.nanmin(data.began[n], initial=np.inf)
    began = began if np.isfinite(began) else 0.0
    ended = max(began, np.nanmax(data.ended[n], initial=began))
    return _local(data.zero, began), _local(data.zero, ended)


def _local(zero: pd.Timestamp, seconds: float) -> datetime:
    moment = zero + pd.Timedelta(microseconds=round(seconds * 1e6))
    return moment.to_pydatetime().astimezone().replace(tzinfo=None)
