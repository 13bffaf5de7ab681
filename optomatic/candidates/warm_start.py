"""Scores of earlier searches: how a generator is told of them, and how that is written down.

An earlier candidate is one of this search if its params, given to what this search scores, come
to the very estimator (or call) that was scored then; the key of its units tells.  It may be
named by other params than it was then: a generator with a ``space`` (a dict of params, or a list of
them) knows those only, and what it does not vary must be as it is in this search.

    ["earlier", [[params, [[metric, score], ...], seconds], ...]]

is the event that is recorded, so that a replay tells the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optomatic.candidates.schedule import Event
from optomatic.errors import StoreIncompatible
from optomatic.planning.params import decode, encode
from optomatic.records import Evaluation

EARLIER = "earlier"
#: Characters: some thousand candidates go into one record.
_LONGEST = 4000


def readings(
    params: Mapping[str, Any], space: Any, fixed: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield `params` as candidates that a generator over `space` may propose.

    Parameters
    ----------
    params : mapping
        Of a candidate of an earlier search.
    space : object
        If it is a dict or a list of dicts, its names are those of candidates; otherwise `params`
        are taken as they are.
    fixed : mapping
        What stands where a candidate says nothing.
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
    """Return a candidate as exact text; None if it holds objects, or much."""
    try:
        text = encode(params, _refuse).text
    except _Opaque:
        return None
    return text if len(text) <= _LONGEST else None


def read(text: str) -> dict[str, Any] | None:
    """Return a candidate from its text; None if it holds objects: nothing is run to read it."""
    try:
        return decode(text, _refuse)
    except (_Opaque, StoreIncompatible):
        return None


def event_of(evaluations: Sequence[Evaluation]) -> Event:
    """Write down what is told."""
    rows = [
        [written(e.params), [list(pair) for pair in e.scores.items()], e.seconds]
        for e in evaluations
    ]
    return [EARLIER, rows]


def told_in(events: Sequence[Event]) -> list[Evaluation]:
    """Return what was told of earlier searches, by the events of a recorded one."""
    rows = [row for event in events if event[0] == EARLIER for row in event[1]]
    return [
        Evaluation(n - len(rows), read(text) or {}, "completed", dict(map(tuple, scores)), seconds)
        for n, (text, scores, seconds) in enumerate(rows)
    ]


class _Opaque(Exception):
    """A value is an object, and would have to be pickled or unpickled."""


def _refuse(_: object) -> Any:
    raise _Opaque
