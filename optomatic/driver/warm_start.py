"""Read earlier searches in the store: scores for a warm start, and events to replay.

An earlier candidate belongs to this search if its params give the same estimator (or call) here;
the key of its units tells.  It may have other params than it had then.  A generator with a
``space`` (a dict of params, or a list of them) only knows the params in that.  All others must be
as in this search.  The recorded event tells a replay the same::

    ["earlier", [[params, [[metric, score], ...], seconds], ...]]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optomatic._config import inside_worker
from optomatic.candidates.ask_tell import Event
from optomatic.errors import StoreIncompatible, shown
from optomatic.planning.params import decode, encode
from optomatic.planning.planner import Planner
from optomatic.records import Evaluation, TaskSignature
from optomatic.results.frames import evaluation_of
from optomatic.store.connection import Store, open_store
from optomatic.store.searches import EarlierSearch

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
        text, _ = encode(params, _refuse)
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


#: At most so many candidates are told, those of the latest searches first.
MOST_TOLD = 1000
#: So many searches and units are looked at.
_MOST_SEARCHES, _MOST_UNITS = 100, 20_000
#: Scores of models that were fitted on a smaller part of this search's rows do not count: they
#: are those of early iterations of successive halving.
_LEAST_PART = 0.5


#: True for all searches, or names or ids of some.
WarmStart = bool | str | Sequence[str] | None


def check_warm_start(which: WarmStart) -> None:
    """Raise TypeError if `which` names no searches."""
    if which is None or isinstance(which, bool | str):
        return
    if not isinstance(which, list | tuple) or not all(isinstance(name, str) for name in which):
        raise TypeError(
            "warm_start is True for all searches on these data, or the name or id of one, or a "
            f"list of them, not {shown(which)}. Nothing was scored."
        )


def check_named_at(db: str | None, which: WarmStart) -> None:
    """As :func:`named`, for a search that learns nothing, by way of the store at `db`.

    Inside of a worker, which has no address of a store, nothing is looked up.
    """
    if _names_in(which) and not inside_worker():
        with open_store(db) as store:
            named(store, which)


def named(store: Store, which: WarmStart) -> list[str] | None:
    """Return the names and ids of the searches that are meant: none if empty, all if None.

    Raise ValueError if there is no search of a name.
    """
    names = _names_in(which)
    there = store.searches.that_are_there(names) if names else set()
    for name in names or ():
        if name not in there:
            raise ValueError(
                f"There is no search of the name or id {shown(name)} on this database, so there is "
                "nothing to begin with. Nothing was scored. Look at warm_start, and at db."
            )
    return names


def _names_in(which: WarmStart) -> list[str] | None:
    check_warm_start(which)
    if which is True:
        return None
    return [which] if isinstance(which, str) else list(which or ())


def earlier_evaluations(
    store: Store,
    names: Sequence[str] | None,
    planner: Planner[Any],
    space: Any = None,
    fixed: Mapping[str, Any] | None = None,
) -> list[Evaluation]:
    """Return completed candidates of earlier searches, numbered from ``-n`` to -1, the latest last.

    The score of a candidate is the mean over the splits that one search has of it: the search with
    the most of them, and of equal ones the latest.  At most 20,000 units of 100 searches are looked
    at, by one query for each 1,000 and two.  Raise ValueError if no named search is about the same.
    """
    if (names is not None and not names) or planner.signature is None:
        return []
    searches = _searches(store, planner.signature, names)
    found: dict[str, tuple[int, Evaluation]] = {}
    for text, n_splits, evaluation in _told_by(store, searches, planner, space, fixed or {}):
        if text not in found or found[text][0] < n_splits:
            found[text] = n_splits, evaluation
    told = [evaluation for _, evaluation in found.values()][:MOST_TOLD][::-1]
    return [replace(evaluation, number=n - len(told)) for n, evaluation in enumerate(told)]


def _searches(store: Store, own: TaskSignature, names: Sequence[str] | None) -> list[EarlierSearch]:
    """Return the searches to look at, the latest first."""
    found = store.searches.about(own.digest, _MOST_SEARCHES, names)
    found = [s for s in found if s.signature.n_train >= _LEAST_PART * own.n_train]
    if names is not None and not found:
        raise ValueError(
            f"Scores of {', '.join(map(shown, names))} cannot be compared with those of this "
            "search: it has other data, another scorer, another class of estimator (or function), "
            "or other versions of the libraries. Nothing was scored. Name another search in "
            "warm_start; True takes what there is."
        )
    units, chosen = 0, list[EarlierSearch]()
    for search in found:
        if units < _MOST_UNITS:
            units += search.n_units
            chosen.append(search)
    return chosen


def _told_by(
    store: Store,
    searches: Sequence[EarlierSearch],
    planner: Planner[Any],
    space: Any,
    fixed: Mapping[str, Any],
) -> Iterator[tuple[str, int, Evaluation]]:
    """Yield candidates as text, on how many splits they have a score, and what is known of them."""
    ids = store.searches.units_of(searches, _MOST_UNITS)
    described = store.jobs.described([i for s in searches for i in ids[s.id]][:_MOST_UNITS])
    for search in searches:
        found = [described[i] for i in ids[search.id] if i in described]
        units = [unit for unit in found if unit.outcome.state == "completed"]
        by_key = {unit.outcome.id.split(":")[1]: unit.outcome for unit in units}
        texts = list(dict.fromkeys(unit.params_text for unit in units))
        for candidate in filter(None, map(read, reversed(texts))):
            for params in readings(candidate, space, fixed):
                keys = planner.keys_on(params, search.signature.splits)
                outcomes = [by_key[key] for key in keys if key in by_key]
                own = written(params)
                if outcomes and own is not None:
                    yield own, len(outcomes), evaluation_of(-1, params, outcomes)


def to_repeat(
    store: Store, replay: str, opening: Sequence[Event]
) -> tuple[list[Event], list[Evaluation]]:
    """Return the events of an earlier search, and the scores that it was told before.

    `opening` is the first event of the race of this search, if there is one.  Raise ValueError if
    there is no such search with events, or its race was another one.
    """
    events = _events_of(store, replay)
    recorded = [event for event in events if event[0] == "racing"]
    if recorded != opening:
        raise ValueError(
            f"The search {shown(replay)} was made {_raced(recorded)}, and this one "
            f"{_raced(opening)} cannot repeat it. Nothing was scored. Give racing= and cv= as they "
            "were."
        )
    return [event for event in events if event[0] not in ("racing", EARLIER)], told_in(events)


def _events_of(store: Store, replay: str) -> list[Event]:
    for search in store.searches.ids_of(replay):
        events = store.searches.events(search)
        if events:
            return events
    raise ValueError(
        f"There is no search with a generator of the name or id {shown(replay)} on this database, "
        "so none can be replayed. Nothing was scored. Look at the name, and at db."
    )


def _raced(opening: Sequence[Event]) -> str:
    if not opening:
        return "without racing"
    _, min_splits, alpha, n_splits = opening[0]
    return f"with racing (min_splits={min_splits}, alpha={alpha:g}, {n_splits} splits)"
