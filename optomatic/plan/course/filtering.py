"""A chain of filters, asked in order, each of those that are left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optomatic.errors import FilterFailed

#: ``(candidates, history) -> `` for each candidate True to keep it, False, or a reason.
Filter = Callable[[list[dict[str, Any]], Any], Iterable[Any]]


class Filters:
    """Leaves candidates out, and counts why.

    Parameters
    ----------
    filters : sequence of callable
        Each gets the candidates that those before it keep, and the history (DataFrame), and
        returns one answer a candidate: True or None keeps it, False leaves it out, and so
        does a text, which is the reason.  One that has ``begin(directions)`` is told first
        what is sought.
    """

    def __init__(self, filters: Sequence[Filter], directions: Mapping[str, str]) -> None:
        self._filters = [_begun(one, directions) for one in filters]
        #: Candidates left out, by reason, in the order in which reasons came up.
        self.left_out: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._filters)

    def reasons(
        self, candidates: Sequence[dict[str, Any]], history: Callable[[], Any]
    ) -> list[str | None]:
        """Return for each candidate why it is left out, or None if it is kept.

        Raises
        ------
        FilterFailed
            For whatever a filter raises, or if it does not give an answer for each candidate.
        """
        found: list[str | None] = [None] * len(candidates)
        for one in self._filters:
            left = [n for n, reason in enumerate(found) if reason is None]
            if not left:
                break
            answers = _answers(one, [dict(candidates[n]) for n in left], history())
            for n, answer in zip(left, answers, strict=True):
                found[n] = answer
        for reason in found:
            if reason is not None:
                self.left_out[reason] = self.left_out.get(reason, 0) + 1
        return found


def _begun(one: Filter, directions: Mapping[str, str]) -> Filter:
    if not callable(one):
        raise FilterFailed(f"a filter is called with candidates and history, and {one!r} cannot be")
    begin = getattr(one, "begin", None)
    if begin is not None:
        begin(dict(directions))
    return one


def _name_of(one: Any) -> str:
    return getattr(one, "__qualname__", None) or type(one).__qualname__


def _answers(one: Filter, candidates: list[dict[str, Any]], history: Any) -> list[str | None]:
    name = _name_of(one)
    try:
        answers = list(one(candidates, history))
    except Exception as error:  # of the user's
        raise FilterFailed(
            f"The filter {name} raised {type(error).__name__}: {error}. {_STORED}"
        ) from error
    if len(answers) != len(candidates):
        raise FilterFailed(
            f"The filter {name} gave {len(answers)} answers for {len(candidates)} candidates. "
            f"{_STORED}"
        )
    return [_reason(name, answer) for answer in answers]


_STORED = "All finished units are stored, and what was queued is withdrawn."


def _reason(name: str, answer: Any) -> str | None:
    if answer is None or isinstance(answer, str):
        return answer or None
    if isinstance(answer, bool | np.bool_):
        return None if answer else name
    raise FilterFailed(
        f"The filter {name} answered {answer!r:.100} ({type(answer).__name__}); True keeps a "
        f"candidate, False or a text (the reason) leaves it out. {_STORED}"
    )


def shown_left_out(left_out: Mapping[str, int], proposed: int) -> str:
    """Say what was left out.

    >>> shown_left_out({"invalid": 8, "unpromising": 4}, 400)
    '12 of 400 left out: 8 invalid, 4 unpromising'
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f"{sum(left_out.values())} of {proposed} left out: {reasons}"
