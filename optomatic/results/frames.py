"""Stored results -> DataFrame, for people, generators and filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from optomatic.records import Evaluation, Outcome, Result

#: Name of the only metric, where it has none of its own.
SCORE = "score"


def evaluation_of(
    number: int, params: Mapping[str, Any], outcomes: Sequence[Outcome | None]
) -> Evaluation:
    """Return what is known of a candidate.

    Parameters
    ----------
    outcomes : sequence of Outcome or None
        One a split; None where there is no end yet.
    """
    known = [outcome for outcome in outcomes if outcome is not None]
    results = [outcome.result for outcome in known if outcome.result is not None]
    failed = any(outcome.state != "completed" for outcome in known)
    pending = len(known) < len(outcomes)
    return Evaluation(
        number,
        params,
        "failed" if failed else "pending" if pending else "completed",
        {} if pending and not failed else _means(results),
        sum(result.fit_time + result.score_time for result in results),
        next((result.extra for result in results if result.extra is not None), None),
        next((error for error in map(_error, known) if error), None),
    )


def _means(results: Sequence[Result]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for result in results:
        if isinstance(result.test, Mapping):
            for name, score in result.test.items():
                found.setdefault(name, []).append(score)
        elif result.test is not None:
            found.setdefault(SCORE, []).append(result.test)
    return {name: float(np.mean(scores)) for name, scores in found.items()}


def _error(outcome: Outcome) -> str | None:
    if outcome.state == "dead":
        return f"it killed the process that scored it {outcome.losses} times"
    failures = outcome.result.failures if outcome.result else ()
    return f"{failures[0].type}: {failures[0].text}" if failures else None


def frame_of(
    evaluations: Iterable[Evaluation], *, extras: Callable[[str | None], Any] | None = None
) -> pd.DataFrame:
    """Return a frame with one row a candidate, in the order given.

    Parameters
    ----------
    evaluations : iterable of Evaluation
    extras : callable, optional
        Text of an extra -> its value; without it there is no column for them.

    Returns
    -------
    DataFrame
        Index ``candidate``.  Columns ``param_<name>`` (of object dtype: values are as they
        were given; NaN where a candidate does not have that param), ``score`` or
        ``score_<metric>`` (float, NaN without a score), ``state``, ``seconds``, ``error`` and,
        if asked for, ``extra``.
    """
    rows = list(evaluations)
    names = dict.fromkeys(name for row in rows for name in row.params)
    metrics = dict.fromkeys(name for row in rows for name in row.scores) or {SCORE: None}
    index = pd.Index([row.number for row in rows], name="candidate")
    columns: dict[str, Any] = {}
    for name in names:
        # As a Series: pandas may take an array of texts for UTF-8, which they need not be.
        values = _objects([row.params.get(name, np.nan) for row in rows])
        columns[f"param_{name}"] = pd.Series(values, index, dtype=object)
    for metric in metrics:
        columns[label_of(metric)] = np.array(
            [row.scores.get(metric, np.nan) for row in rows], dtype=float
        )
    columns["state"] = _objects([row.state for row in rows])
    columns["seconds"] = np.array([row.seconds for row in rows], dtype=float)
    columns["error"] = _objects([row.error for row in rows])
    if extras is not None:
        columns["extra"] = _objects([extras(row.extra) for row in rows])
    return pd.DataFrame(columns, index=index)


def label_of(metric: str) -> str:
    """Return the column of a metric."""
    return SCORE if metric == SCORE else f"score_{metric}"


def _objects(values: Sequence[Any]) -> Any:
    """Return an array whose items are `values` themselves, lists and arrays included."""
    array = np.empty(len(values), dtype=object)
    for n, value in enumerate(values):
        array[n] = value
    return array
