"""The lines that ``verbose`` prints for units.

scikit-learn prints a line for each unit in the process that scores it.  The client prints the same
line for units of workers as they end, and for stored units at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from joblib.logger import short_format_time

from optomatic.errors import shown
from optomatic.records import Candidate, Outcome
from optomatic.results.table import fit_and_score_rows

_WIDTH = 80


class Place(NamedTuple):
    """The place of a unit in the table of its search."""

    candidate: int
    split: int
    n_splits: int
    params: Mapping[str, Any]


Line = Callable[[Place, Outcome, bool], str]


class Lines:
    """Prints the line of each unit once for each of its places in the table.

    `line` makes the text; None prints nothing.  `printed` are units that this process scored:
    scikit-learn has printed their lines.
    """

    def __init__(self, line: Line | None) -> None:
        self._line = line
        self._n = 0
        self._places: dict[str, list[Place]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._stored: set[str] = set()
        self._done: set[tuple[int, int]] = set()
        self.printed: list[Collection[str]] = []

    def planned(self, candidate: Candidate) -> None:
        """Add a candidate, with the ids of its units, one a split."""
        for split, unit_id in enumerate(candidate.units):
            place = Place(self._n, split, len(candidate.units), candidate.params)
            self._places.setdefault(unit_id, []).append(place)
        self._n += 1

    def ended(self, outcomes: Mapping[str, Outcome], *, stored: bool) -> None:
        """Print the lines of units that ended, unless they were stored."""
        if self._line is None:
            return
        self._outcomes.update(outcomes)
        if stored:
            self._stored.update(outcomes)
        else:
            for unit_id in sorted(outcomes, key=self._first_place):
                self._print(unit_id)
            print(end="", flush=True)

    def rest(self) -> None:
        """Print all lines that were not printed before."""
        for unit_id in self._places:
            if unit_id in self._outcomes:
                self._print(unit_id)

    def _first_place(self, unit_id: str) -> tuple[int, int]:
        return self._places[unit_id][0][:2] if unit_id in self._places else (-1, -1)

    def _print(self, unit_id: str) -> None:
        assert self._line is not None
        places = self._places.get(unit_id, [])
        by_sklearn = any(unit_id in printed for printed in self.printed)
        for n, place in enumerate(places):
            where = (place.candidate, place.split)
            if where not in self._done and not (by_sklearn and n == 0):
                # In one piece: another thread may print at the same time.
                stored = unit_id in self._stored
                print(self._line(place, self._outcomes[unit_id], stored) + "\n", end="")
            self._done.add(where)


def cv_line(
    *,
    verbose: int,
    error_score: Any,
    metrics: Sequence[str] | None,
    return_train_score: bool,
    n_candidates: int | None,
) -> Line | None:
    """Return what makes the line of a unit, as scikit-learn prints it; None if it prints none.

    There are lines from ``verbose=2``, from 3 with scores and the number of the split.  From 10
    they have the number of the candidate, and there is a line for the start of units.
    `n_candidates` is None if it is unknown.
    """
    if verbose < 2:
        return None
    score = math.nan if isinstance(error_score, str) else error_score

    def line(place: Place, outcome: Outcome, stored: bool) -> str:
        (row,) = fit_and_score_rows(
            [outcome], error_score=score, metrics=metrics, return_train_score=return_train_score
        )
        progress = f" {place.split + 1}/{place.n_splits}" if verbose > 2 else ""
        if verbose > 9:
            of = "" if n_candidates is None else f"/{n_candidates}"
            progress += f"; {place.candidate + 1}{of}"
        return _line(row, place.params, progress, verbose, started=verbose > 9 and not stored)

    return line


def _line(
    row: Mapping[str, Any],
    candidate: Mapping[str, Any],
    progress: str,
    verbose: int,
    *,
    started: bool,
) -> str:
    head = f"[CV{progress}] END "
    params = ", ".join(f"{name}={candidate[name]}" for name in sorted(candidate))
    text = params + (";" if params else "")
    if verbose > 2:
        text += _scores(row["test_scores"], row.get("train_scores"))
    text += f" total time={short_format_time(row['fit_time'] + row['score_time'])}"
    line = head + text.rjust(_WIDTH - len(head), ".")
    if started:
        start = f"[CV{progress}] START {params}"
        line = f"{start}{'.' * (_WIDTH - len(start))}\n{line}"
    return line


def _scores(test: Any, train: Any) -> str:
    if not isinstance(test, Mapping):
        return f", score={_pair(test, train)}" if train is not None else f", score={test:.3f}"
    train = train or {}
    return "".join(f" {name}: {_pair(test[name], train.get(name))}" for name in sorted(test))


def _pair(test: float, train: float | None) -> str:
    return f"(test={test:.3f})" if train is None else f"(train={train:.3f}, test={test:.3f})"


def function_line(*, verbose: int, n_candidates: int | None) -> Line | None:
    """Return what makes the line of a candidate of a function; None below ``verbose=2``.

    >>> from optomatic.records import Result
    >>> line = function_line(verbose=2, n_candidates=24)
    >>> outcome = Outcome("u", "completed", Result(0.9, None, 61, 0, 0))
    >>> line(Place(2, 0, 1, {"lr": 0.1}), outcome, False)
    '[3/24] END lr=0.1; score=0.900 total time= 1.0min'
    """
    if verbose < 2:
        return None
    of = "" if n_candidates is None else f"/{n_candidates}"

    def line(place: Place, outcome: Outcome, _: bool) -> str:
        result = outcome.result
        test = None if result is None else result.test
        scores = test if isinstance(test, Mapping) else {} if test is None else {"score": test}
        failed = outcome.state != "completed"
        came = ["failed"] if failed else [f"{name}={score:.3f}" for name, score in scores.items()]
        seconds = result.fit_time + result.score_time if result else 0.0
        params = ", ".join(f"{name}={shown(value)}" for name, value in place.params.items())
        head = f"[{place.candidate + 1}{of}] END {params}; {', '.join(came)}"
        return f"{head} total time={short_format_time(seconds)}"

    return line
