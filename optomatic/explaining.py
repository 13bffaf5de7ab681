"""Find out why a search does not move, and why scores of an earlier one were not reused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from optomatic.plan.packing.params import names_of
from optomatic.records import Glance, Lane, WorkerRecord
from optomatic.results.explanation import Explanation, Finding, differences
from optomatic.store.extending import ids_that_wait
from optomatic.store.forms import key_of
from optomatic.store.opening import Store
from optomatic.worker.ability import lacking, missing_in, refusing
from optomatic.worker.machine import timing_here

#: So many earlier searches are looked at.
_MOST_SEARCHES = 200
#: So many differences are named.
_SHOWN = 4
_ENDED = ("completed", "failed", "dead")


def explain(store: Store, search: str, ids: Sequence[str], texts: Sequence[str]) -> Explanation:
    """Return what was found out about a search.

    Parameters
    ----------
    store : Store
    search : str
        Its id.
    ids : sequence of str
        Those of its units.
    texts : sequence of str
        Its candidates, as ``params_text``.
    """
    record = store.searches.record(search)
    if not record:
        return Explanation((Finding("state", "It is not in the database (any more)."),))
    glances = store.jobs.glances(ids)
    found = [
        *_of_its_state(store, search, record, ids, glances),
        *_of_failures(store, ids, glances),
        *_of_reuse(store, search, record, ids, texts, glances),
    ]
    return Explanation(tuple(found))


# Why it does not move


def _of_its_state(
    store: Store,
    search: str,
    record: Mapping[str, Any],
    ids: Sequence[str],
    glances: Mapping[str, Glance],
) -> Iterator[Finding]:
    counts = Counter(glances[i].state if i in glances else "missing" for i in ids)
    done = sum(counts[state] for state in _ENDED)
    state = f"It is {record.get('state')}: {done} of {len(ids)} units have an end"
    more = [f"{n} {name}" for name, n in sorted(counts.items()) if name not in _ENDED]
    yield Finding("state", f"{', '.join([state, *more])}.")
    if not counts["queued"] and not counts["running"]:
        if record.get("state") == "running" and not store.searches.is_running(search):
            yield from _of_its_client(record)
        return
    running = store.jobs.running_for(ids_that_wait(search))
    if running:
        yield Finding("running", f"{_who_runs(running)}.")
    if not store.searches.is_running(search):
        yield from _of_its_client(record)
    yield from _of_losses(store, search)
    if counts["queued"]:
        yield from _of_workers(store, search, bool(running))


def _who_runs(running: Counter[tuple[str, str]]) -> str:
    named = [
        f"{n} by worker {worker[:4]} on {host}" for (worker, host), n in running.most_common(8)
    ]
    rest = f", and others by {len(running) - 8} workers more" if len(running) > 8 else ""
    total = sum(running.values())
    return f"It moves: {_units(total)} in work, {', '.join(named)}{rest}"


def _of_its_client(record: Mapping[str, Any]) -> Iterator[Finding]:
    if record.get("state") != "running":
        return
    seen = record.get("seen_at")
    if isinstance(seen, datetime):
        yield Finding(
            "client",
            f"The process that made it was last seen at {_shown_moment(seen)}, and has ended or "
            "cannot reach the database. All finished scores are stored, and what it queued stays "
            "queued for standalone workers. Make the same search again to go on.",
        )
    else:
        yield Finding("client", "It was left to standalone workers: no process waits for it.")


def _of_losses(store: Store, search: str) -> Iterator[Finding]:
    lost = store.jobs.poisonous(ids_that_wait(search))
    if lost:
        yield Finding(
            "losses",
            f"{_units(sum(lost.values()))} ended a process that scored them, up to {max(lost)} "
            f"times. Each runs alone from then on, and is given up after {timing_here().max_losses}"
            " times.",
        )


def _of_workers(store: Store, search: str, moves: bool) -> Iterator[Finding]:
    """Yield why nobody takes what is queued, and who refuses."""
    waiting = ids_that_wait(search)
    queued = list(dict.fromkeys(lane for one in waiting for lane in store.jobs.lanes_of(one)))
    lanes = store.workers.lanes(queued)
    alive = store.workers.alive(timing_here().lease)
    foreign = store.jobs.foreign_for(waiting)
    if foreign:
        yield Finding(
            "other version",
            f"{_units(len(foreign))} were queued by another version of optomatic, in a form that "
            "this one does not know. Only its workers take them.",
        )
    if len(lanes) < len(queued):
        yield Finding(
            "workers",
            "What some queued units ask of workers is not in the database, so none can take them. "
            "Make the search again where its data are: it stores that anew.",
        )
    for refusal in refusing(alive, lanes):
        yield Finding("refusal", f"{refusal}. It looks again every minute.")
    if moves:
        return
    if store.searches.is_running(search):
        yield Finding("client", "The process that made it is there, and scores or waits.")
    why = missing_in(alive, lanes)
    if why is None and alive:
        yield Finding(
            "workers",
            f"{len(alive)} standalone worker{'s' if len(alive) > 1 else ''} can take the queued "
            "units, and may be busy with others, or about to begin.",
        )
    elif not alive:
        yield Finding("workers", f"No standalone worker has been seen. {_start(store, lanes)}")
    else:
        yield from _of_lacks(alive, lanes)
        yield Finding("workers", f"None of the workers can score it. {_start(store, lanes)}")


def _of_lacks(alive: Sequence[WorkerRecord], lanes: Sequence[Lane]) -> Iterator[Finding]:
    for worker in alive:
        for lane in lanes:
            if lane.id not in worker.refused and (lack := lacking(worker, lane)):
                who = f"Worker {worker.id[:4]} on {worker.process.host}"
                yield Finding("workers", f"{who} cannot score it: needed is {lack}.")


def _start(store: Store, lanes: Sequence[Lane]) -> str:
    tags = sorted({tag for lane in lanes for tag in lane.requires})
    options = "".join(f" --tag {tag}" for tag in tags)
    return f"Start one: python -m optomatic.worker --db {store.shown_uri}{options}"


# What went wrong


def _of_failures(
    store: Store, ids: Sequence[str], glances: Mapping[str, Glance]
) -> Iterator[Finding]:
    counts = Counter(glance.state for glance in glances.values())
    if counts["failed"]:
        yield Finding("failed", f"{_units(counts['failed'])} failed; errors() groups them.")
    if counts["dead"]:
        yield Finding(
            "given up",
            f"{_units(counts['dead'])} killed each process that scored them, and were given up. "
            "errors() says how they ended; retry_failed=True runs them again.",
        )
    odd = store.jobs.set_aside(ids)
    if odd:
        yield Finding(
            "set aside",
            f"{len(odd)} records could not be read, and are kept in the state 'invalid': "
            f"{odd[0].why}. Their units are scored again.",
        )


# Why scores were not reused


def _of_reuse(
    store: Store,
    search: str,
    record: Mapping[str, Any],
    ids: Sequence[str],
    texts: Sequence[str],
    glances: Mapping[str, Glance],
) -> Iterator[Finding]:
    began = record.get("began_at")
    stored = {i for i, glance in glances.items() if _ended_before(glance, began)}
    if ids and len(stored) == len(ids):
        yield Finding("reuse", f"All {len(ids)} scores were there when it began.")
        return
    reused = f"{len(stored)} of {_units(len(ids))} had a score when it began"
    ingredients = _ingredients(record)
    if "uncertain" in ingredients:
        yield Finding(
            "reuse",
            f"{reused}. It is scored for itself only, as {ingredients['uncertain']}.",
        )
        return
    earlier = _most_alike(store, search, record)
    if earlier is None:
        yield Finding("reuse", f"{reused}. No earlier search here has its name or kind.")
        return
    which = f"{earlier.get('name')!r} ({earlier['_id']}, of {_shown_moment(earlier['began_at'])})"
    varied = {name for text in texts for name in names_of(text)}
    varied |= {n for c in _candidates_of(store, earlier["_id"]) for n in names_of(c)}
    found = differences(ingredients, _comparable(earlier, record), varied)
    if found:
        more = f" ({len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
        also = f" Also: {', '.join(found[1:_SHOWN])}{more}." if found[1:] else ""
        yield Finding("reuse", f"{reused}. Other than in {which}: {found[0]}.{also}")
    else:
        yield _of_candidates(store, earlier, ids, stored, reused, which, ingredients)


def _of_candidates(
    store: Store,
    earlier: Mapping[str, Any],
    ids: Sequence[str],
    stored: set[str],
    reused: str,
    which: str,
    ingredients: Mapping[str, Any],
) -> Finding:
    """Say what it is where the ingredients of keys are equal."""
    theirs = {key_of(unit_id) for unit_id in store.searches.unit_ids(earlier["_id"])}
    common = [unit_id for unit_id in ids if key_of(unit_id) in theirs]
    again = len([unit_id for unit_id in common if unit_id not in stored])
    text = f"{reused}. It differs from {which} in its candidates only"
    if len(common) == len(ids):
        text = f"{reused}. It asks for the same units as {which}"
    if again:
        train = ingredients.get("train_scores") and not _ingredients(earlier).get("train_scores")
        why = "train scores were not asked for there" if train else "they had none then"
        text += f"; of those in both, {again} were scored again or later, as {why}"
    return Finding("reuse", f"{text}.")


def _most_alike(store: Store, search: str, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the earlier search of this name or kind whose keys differ least, the latest first."""
    own = _ingredients(record)
    found = [
        other
        for other in store.searches.earlier(search, _MOST_SEARCHES)
        if other.get("name") == record.get("name") or _kind(other) == _kind(record)
    ]
    found = [one for one in found if _ingredients(one) and isinstance(one["began_at"], datetime)]
    varied = set(_mapping(own, "params"))  # which of them are varied is looked up for one only
    ranked = [(len(differences(own, _ingredients(one), varied)), one) for one in found]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _comparable(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the ingredients of `earlier`, with our splits where ours are among its own."""
    theirs, ours = _splits(earlier), _splits(record)
    among = bool(ours) and ours <= theirs
    found = _ingredients(earlier)
    return {**found, "splits": _ingredients(record).get("splits")} if among else found


def _splits(record: Mapping[str, Any]) -> set[str]:
    found = _mapping(record, "subject").get("splits")
    return set(found) if isinstance(found, list) else set()


def _candidates_of(store: Store, search: str) -> list[str]:
    return [candidate.params_text for candidate in candidates_of(store, search)]


class Candidate(NamedTuple):
    """Stands in until searches store their candidates."""

    params_text: str
    reason: str | None
    units: tuple[str | None, ...]


def candidates_of(store: Store, search: str) -> list[Any]:
    """Return the candidates of a search, in the order in which they were asked for."""
    if hasattr(store.searches, "candidates"):
        return list(store.searches.candidates(search))
    units = store.jobs.described(store.searches.unit_ids(search))
    rows: dict[str, list[str]] = {}
    for unit_id in store.searches.unit_ids(search):
        if unit_id in units:
            rows.setdefault(units[unit_id].params_text, []).append(unit_id)
    n_splits = max(map(len, rows.values()), default=0)
    return [
        Candidate(text, None, (*own, *[None] * (n_splits - len(own)))) for text, own in rows.items()
    ]


def _kind(record: Mapping[str, Any]) -> Any:
    """Return the class of the estimator, or the function, as far as it was written down."""
    kind = _ingredients(record).get("class")
    return kind or str(record.get("estimator")).partition("(")[0]


def _ingredients(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(record, "ingredients")


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _ended_before(glance: Glance, moment: Any) -> bool:
    if glance.ended is None or not isinstance(moment, datetime):
        return False
    return glance.state in _ENDED and glance.ended < moment


def _shown_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _units(count: int) -> str:
    return f"{count} unit{'s' if count != 1 else ''}"
