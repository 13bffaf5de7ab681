"""Scores of earlier searches, as candidates of this one, and as recorded events.

An earlier candidate belongs to this search if its params give the same estimator (or call) here;
the key of its units tells.  It may have other params than it had then: a generator with a
``space`` (a dict of params, or a list of them) only knows the params in that, and all others must
be as in this search.

    ["earlier", [[params, [[metric, score], ...], seconds], ...]]

is the recorded event, so that a replay tells the generator the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optomatic.candidates.ask_tell import Event
from optomatic.errors import StoreIncompatible
from optomatic.planning.params import decode, encode
from optomatic.records import Evaluation

EARLIER = "earlier"
#: Characters of a candidate: one record holds some thousand of them.
_LONGEST = 4000


def readings(
    params: Mapping[str, Any], space: Any, fixed: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield `params` of an earlier candidate as candidates over `space`.

    If `space` is no dict or list of dicts, they are `params` themselves.  `fixed` has the values
    of params that a candidate does not set.
    """
    branches = [space] if isinstance(space, Mapping) else space
    if not isinstance(branches, list | tuple) or not branches:
        yield dict(params)
        return
    known = {**fixed, **params}
    for branch in branches:
        if all(name in known for name in branch):
            yield {name: known[name] for name in branch}


def written(params: Mapping[str, Any]) -> str | None:
    """Return a candidate as exact text, None if it holds objects or is too long."""
    try:
        text = encode(params, _refuse).text
    except _Opaque:
        return None
    return text if len(text) <= _LONGEST else None


def read(text: str) -> dict[str, Any] | None:
    """Return a candidate from its text, None if it holds objects, which are not unpickled."""
    try:
        return decode(text, _refuse)
    except (_Opaque, StoreIncompatible):
        return None


def event_of(evaluations: Sequence[Evaluation]) -> Event:
    """Return the event that tells `evaluations`."""
    rows = [
        [written(e.params), [list(pair) for pair in e.scores.items()], e.seconds]
        for e in evaluations
    ]
    return [EARLIER, rows]


def told_in(events: Sequence[Event]) -> list[Evaluation]:
    """Return the evaluations of earlier searches in recorded events."""
    rows = [row for event in events if event[0] == EARLIER for row in event[1]]
    return [
        Evaluation(n - len(rows), read(text) or {}, "completed", dict(map(tuple, scores)), seconds)
        for n, (text, scores, seconds) in enumerate(rows)
    ]


class _Opaque(Exception):
    """A value is an object, which would need a pickle."""


def _refuse(_: object) -> Any:
    raise _Opaque
