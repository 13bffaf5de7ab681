"""A search as plain arrays, read once, of which all pictures are made.  Draws nothing."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from optomatic.errors import shown
from optomatic.results.export import as_utc, utf8
from optomatic.results.frames import (
    SCORE,
    CandidateRow,
    candidate_table,
    label_of,
    split_table,
)
from optomatic.store.documents import RecordForm

Floats = npt.NDArray[np.float64]

#: So many categories have a name of their own; the rarest others share one.
MOST_CATEGORIES, OTHERS = 20, "(others)"
_LONGEST = 24
#: From this ratio of the largest to the smallest value on, a scale may be logarithmic.
_SPREAD = 50.0


class Stored(NamedTuple):
    """A search at the moment ``now`` of the server.

    ``space`` is what a fitted search was given; None if only its text is known.
    """

    record: RecordForm
    state: str
    now: datetime
    rows: Sequence[CandidateRow]
    space: Any


class Readable(Protocol):
    """A search with a record in a database: a fitted one, or that of ``attach``."""

    def _stored(self) -> Stored: ...


# -- params ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Param:
    """The values of a param as places on an axis.

    Attributes
    ----------
    name : str
    at : ndarray of shape (n_candidates,)
        The number, or the place of the category; NaN where a candidate lacks the param.
    is_log : bool
        Whether the numbers lie more evenly on a logarithmic scale.
    categories : sequence of str
        Names of the places 0, 1, ...; empty for numbers.
    """

    name: str
    at: Floats
    is_log: bool = False
    categories: Sequence[str] = ()

    @cached_property
    def distinct(self) -> Floats:
        """The places that occur, in order."""
        return np.unique(self.at[~np.isnan(self.at)])

    def of(self, rows: Any) -> Param:
        """Return the param of these candidates."""
        return replace(self, at=self.at[rows])

    def forward(self, places: Floats) -> Floats:
        """Return `places` so that equal distances look equal."""
        return np.log10(places) if self.is_log else places

    def text(self, place: float) -> str:
        """Return the value at a place as people write it."""
        return self.categories[int(place)] if self.categories else number(float(place))


def number(value: float, digits: int = 3) -> str:
    """Return a number as people write it.

    >>> number(0.001), number(123456.7), number(1234.0)
    ('0.001', '123000', '1234')
    """
    whole = value == int(value) and abs(value) < 1e5
    return f"{value:.0f}" if whole else f"{float(f'{value:.{digits}g}'):g}"


def param_of(name: str, values: Sequence[Any]) -> Param:
    """Return a param; `values` has NaN for candidates that lack it."""
    there = np.array([not (isinstance(v, float) and v != v) for v in values], dtype=bool)
    known = [value for value, has in zip(values, there, strict=True) if has]
    at = np.full(len(values), np.nan)
    if all(map(is_number, known)):
        at[there] = [float(value) for value in known]
        return Param(name, at, is_log=is_spread(np.unique(at[there])))
    texts = [_category(value) for value in known]
    names = _ordered(known, texts)
    places = {text: n for n, text in enumerate(names)}
    at[there] = [places.get(text, len(names) - 1) for text in texts]
    return Param(name, at, categories=names)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number that a float holds."""
    return type(value) in (int, float) and abs(value) < 1e300


def _category(value: Any) -> str:
    text = utf8(value if isinstance(value, str) else repr(value))
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _ordered(values: Sequence[Any], texts: Sequence[str]) -> list[str]:
    """Return the names of categories: numbers in order, then others as they came about."""
    numbers = {t: v for t, v in zip(texts, values, strict=True) if is_number(v)}
    names = sorted(numbers, key=lambda text: numbers[text])
    names += [text for text in dict.fromkeys(texts) if text not in numbers]
    if len(names) <= MOST_CATEGORIES:
        return names
    kept = {text for text, _ in Counter(texts).most_common(MOST_CATEGORIES - 1)}
    return [text for text in names if text in kept] + [OTHERS]


def is_spread(values: Floats) -> bool:
    """Return whether values lie more evenly on a logarithmic scale than on a linear one.

    >>> is_spread(np.array([0.1, 1, 10])), is_spread(np.linspace(0.1, 10, 9))
    (True, False)
    """
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() <= 0 or known.max() < _SPREAD * known.min():
        return False
    return _off_centre(np.log(known)) < _off_centre(known)


def _off_centre(values: Floats) -> float:
    """Return how far the median is from the middle of the range, as a share of the range."""
    low, high = values.min(), values.max()
    return float(abs(np.median(values) - (low + high) / 2) / (high - low))


# -- searches ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SearchData:
    """A search as arrays: rows are candidates, columns are splits.

    Attributes
    ----------
    name, state : str
    metric : str
        Name of the metric of `scores`.
    minimize : bool
        Whether a lower score is better.
    params : dict of str to Param
    candidates : sequence of mapping
        The params of each candidate as they are stored.
    states : ndarray of shape (n_candidates,)
        ``completed``, ``failed``, ``stopped`` (by a race), ``pending``, ``left out``, ...
    scores, stds : ndarray of shape (n_candidates,)
        Mean and deviation over the splits that have a score; NaN if none has.
    metrics : dict of str to ndarray of shape (n_candidates,)
        The means of all metrics.
    split_scores, split_states, workers : ndarray of shape (n_candidates, n_splits)
        A worker is its host and the beginning of its id; empty without one.
    began, ended : ndarray of shape (n_candidates, n_splits)
        When the database was told so, perhaps of several units at once: seconds since the search
        began, below 0 for units of earlier searches.
    took : ndarray of shape (n_candidates, n_splits)
        Seconds of fit and score.
    lost : list of (str, float, float)
        Worker, beginning and end of attempts whose worker was lost.
    rung, resources : ndarray of shape (n_candidates,) or None
        Of successive halving: the iteration, and what a candidate got in it.
    zero : Timestamp
        When the search began, in UTC.
    now : float
        When it was read, in seconds since then.
    """

    name: str
    state: str
    metric: str
    minimize: bool
    params: dict[str, Param]
    candidates: Sequence[Mapping[str, Any]]
    states: Any
    scores: Floats
    stds: Floats
    metrics: dict[str, Floats]
    split_scores: Floats
    split_states: Any
    workers: Any
    began: Floats
    ended: Floats
    took: Floats
    lost: list[tuple[str, float, float]]
    rung: Any
    resources: Any
    zero: pd.Timestamp
    now: float

    @cached_property
    def kinds(self) -> Any:
        """How each candidate is drawn.

        ``complete``, ``failed`` (it has no score that can be compared), ``partial`` (a score on
        some splits only), or empty without any score.
        """
        there = np.isfinite(self.scores)
        ended = self.states == "completed"
        failed = (self.states == "failed") | (ended & ~there)
        return np.select([ended & there, failed, there], ["complete", "failed", "partial"], "")

    @property
    def complete(self) -> Any:
        """A mask of complete candidates; see :attr:`kinds`."""
        return self.kinds == "complete"

    @property
    def failed(self) -> Any:
        """A mask of failed candidates."""
        return self.kinds == "failed"

    @property
    def partial(self) -> Any:
        """A mask of partial candidates."""
        return self.kinds == "partial"

    @property
    def drawn_scores(self) -> Floats:
        """The scores, without those of failed candidates."""
        return np.where(self.failed, np.nan, self.scores)

    @property
    def losses(self) -> Floats:
        """The scores so that lower is better; NaN for failed candidates."""
        return self.drawn_scores if self.minimize else -self.drawn_scores

    @cached_property
    def latest(self) -> Any:
        """A mask that has each candidate once: on the last rung of halving that it reached."""
        found = np.ones(len(self.states), dtype=bool)
        if self.rung is not None:
            last = {key: n for n, key in enumerate(self.identities())}
            found[:] = False
            found[list(last.values())] = True
        return found

    @cached_property
    def resource(self) -> str | None:
        """The param of which halving gives more on each rung; None if it gives rows."""
        same = (n for n, own in self.params.items() if np.array_equal(own.at, self.resources))
        return None if self.resources is None else next(same, None)

    def identities(self, without: str | None = None) -> list[str]:
        """Return texts that are equal for equal params, `without` or the resource apart."""
        without = without or self.resource
        return [
            repr(sorted((name, repr(value)) for name, value in own.items() if name != without))
            for own in self.candidates
        ]

    def varying(self) -> list[str]:
        """Return the params in which candidates differ, also by lacking them."""
        sizes = {n: len(p.distinct) + np.isnan(p.at).any() for n, p in self.params.items()}
        return [name for name, size in sizes.items() if size > 1]

    def param(self, name: str) -> Param:
        """Return a param; raise ValueError if there is none of this name."""
        if self.params and name not in self.params:
            raise ValueError(_none_of("param", name, list(self.params)))
        return self.params.get(name) or Param(name, np.zeros(0))

    def progress(self) -> str:
        """Return how far the search is; empty if it is completed."""
        if self.state == "completed":
            return ""
        done = int(np.isin(self.split_states, ("completed", "failed", "dead")).sum())
        return f"{self.state}, {done:,} of {self.split_states.size:,} units have ended"


def _none_of(what: str, name: str, known: Sequence[str]) -> str:
    names = ", ".join(map(repr, known))
    return f"There is no {what} {shown(name)} in this search. Nothing was drawn. It has {names}."


def search_data(search: Readable, metric: str | None = None) -> SearchData:
    """Read a fitted search, or that of ``attach``.

    Parameters
    ----------
    search : MongoSearchCV, MongoSearch, AttachedSearch, ...
    metric : str, default=None
        Name of a metric; None for the one that decides, else the first.

    Raises
    ------
    ValueError
        If the search has no such metric, or is not in the database any more.
    NotFittedError, StoreError
        As :meth:`~optomatic.search.shared_methods.StoredSearch.to_frame`.
    """
    return data_of(search._stored(), metric)


def data_of(stored: Stored, metric: str | None = None) -> SearchData:
    """Return a search as arrays; see :func:`search_data`."""
    record, rows = stored.record, stored.rows
    frame, units = candidate_table(rows), split_table(rows)
    means = {n: frame[n].to_numpy(dtype=float) for n in map(str, frame.columns) if _is_score(n)}
    label, metric = _chosen(means, record, metric)
    zero = pd.Timestamp(as_utc(record.began_at))
    std, matrix = f"std{label.removeprefix(SCORE)}", _Matrix(units, len(rows))
    return SearchData(
        name=record.name,
        state=stored.state,
        metric=metric,
        minimize=_is_minimized(record, label),
        params=_params(frame),
        candidates=[row.params for row in rows],
        states=frame["state"].to_numpy(dtype=object),
        scores=means[label],
        stds=frame[std].to_numpy(dtype=float) if std in frame else means[label] * 0,
        metrics={name.removeprefix("score_"): own for name, own in means.items()},
        split_scores=matrix.of(units[label].to_numpy(dtype=float), np.nan),
        split_states=matrix.of(units["state"].to_numpy(dtype=object), "missing"),
        workers=matrix.of(_array(map(_worker, units["host"], units["worker"])), ""),
        began=matrix.of(_seconds(units["began"], zero), np.nan),
        ended=matrix.of(_seconds(units["ended"], zero), np.nan),
        took=matrix.of((units["fit_time"] + units["score_time"]).to_numpy(dtype=float), np.nan),
        lost=[
            (_worker(own.host, own.worker), _since(own.began, zero), _since(own.at, zero))
            for row in rows
            for unit in row.units
            for own in (unit.lost if unit else ())
        ],
        rung=frame["iter"].to_numpy() if "iter" in frame else None,
        resources=frame["n_resources"].to_numpy() if "n_resources" in frame else None,
        zero=zero,
        now=_since(stored.now, zero),
    )


def _is_score(name: str) -> bool:
    return name == SCORE or (name.startswith("score_") and name != "score_time")


def _params(frame: pd.DataFrame) -> dict[str, Param]:
    names = [n.removeprefix("param_") for n in map(str, frame.columns) if n.startswith("param_")]
    return {name: param_of(name, frame[f"param_{name}"].tolist()) for name in names}


def _chosen(means: Mapping[str, Floats], record: RecordForm, metric: str | None) -> tuple[str, str]:
    """Return the column of the metric, and its name for people."""
    names = {label: label.removeprefix("score_") for label in means}
    if SCORE in means:
        names[SCORE] = _text_in(record.scoring) or SCORE
    nothing = all(np.isnan(own).all() for own in means.values())
    if metric is None or nothing:  # without a score no metric has a column yet
        directions = [name for name, _ in record.facts.get("directions") or ()]
        wanted = [label_of(str(n)) for n in (record.facts.get("refit"), *directions)]
        label = next(label for label in (*wanted, *means) if label in means)
        return label, metric or names[label]
    for label, name in names.items():
        if metric in (name, label.removeprefix("score_")):
            return label, metric
    raise ValueError(_none_of("metric", metric, list(names.values())))


def _text_in(scoring: str) -> str:
    """Return the text that `scoring` is the repr of, empty if it is of something else."""
    try:
        found = ast.literal_eval(scoring)
    except (ValueError, SyntaxError):
        return ""
    return found if isinstance(found, str) and found not in ("maximize", "minimize") else ""


def _is_minimized(record: RecordForm, label: str) -> bool:
    """Return whether lower is better; one direction stands for all metrics of a function."""
    directions = {label_of(name): way for name, way in record.facts.get("directions") or ()}
    only = next(iter(directions.values())) if len(directions) == 1 else ""
    return bool(directions.get(label, only) == "minimize")


class _Matrix:
    """Puts columns of units into arrays of candidates x splits."""

    def __init__(self, units: pd.DataFrame, n_candidates: int) -> None:
        self._at = tuple(np.asarray(units.index.get_level_values(n)) for n in (0, 1))
        self._shape = n_candidates, int(self._at[1].max(initial=-1)) + 1

    def of(self, column: Any, empty: Any) -> Any:
        found = np.full(self._shape, empty, dtype=column.dtype)
        found[self._at] = column
        return found


def _seconds(moments: pd.Series, zero: pd.Timestamp) -> Floats:
    return np.asarray((moments - zero).dt.total_seconds(), dtype=float)


def _since(moment: datetime | None, zero: pd.Timestamp) -> float:
    return np.nan if moment is None else (as_utc(moment) - zero).total_seconds()


def _worker(host: Any, worker: Any) -> str:
    """Return a name for people of a worker; empty without one."""
    return f"{host or '?'} {str(worker)[:6]}" if worker else ""


def _array(values: Iterable[Any]) -> Any:
    return np.array(list(values), dtype=object)
