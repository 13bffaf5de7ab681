"""Find out why a search does not move, and why scores of an earlier one were not reused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from optomatic.planning.params import names_of
from optomatic.records import Candidate, Queue, WorkerRecord
from optomatic.search.stored_table import Part, read_parts
from optomatic.store.connection import Store
from optomatic.store.forms import RecordForm, key_of
from optomatic.store.jobs import Glance
from optomatic.store.searches import ids_that_wait, state_of
from optomatic.worker.availability import lacking, missing_in, refusing, start_command
from optomatic.worker.host import timing_here

#: What keys are made of, in the order in which it is compared, and how it is called.
_ROLES = {
    "function": "function (its code)",
    "X": "X",
    "y": "y",
    "scorer": "scorer",
    "fit_params": "fit_params",
    "score_params": "score_params",
    "config": "config (scikit-learn's set_config)",
    "callbacks": "callbacks",
}
_DATA = "data:"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out about a search.

    Attributes
    ----------
    kind : str
        ``state``, ``running``, ``client``, ``workers``, ``refusal``, ``other version``,
        ``losses``, ``given up``, ``failed``, ``set aside`` or ``reuse``.
    text : str
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What was found out about a search.  It prints as lines.

    Attributes
    ----------
    findings : tuple of Finding
    """

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        return "\n".join(f"{one.kind}: {one.text}" for one in self.findings)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = (f"<li><b>{escape(f.kind)}</b>: {escape(f.text)}</li>" for f in self.findings)
        return f"<ul>{''.join(lines)}</ul>"


def differences(
    own: Mapping[str, Any], other: Mapping[str, Any], varied: Collection[str] = ()
) -> list[str]:
    """Return in what the keys of two searches differ, by the ingredients that they wrote down.

    Parameters
    ----------
    own, other : mapping
        ``ingredients`` of the records of the later and the earlier one.
    varied : collection of str
        Params that the space of either varies: their value in the estimator does not count.

    Returns
    -------
    list of str
        The first of them is the first in which they differ, as in ``["y", "numpy 2.3 -> 2.4"]``.

    Examples
    --------
    >>> own = {"X": "a", "y": "b", "environment": {"numpy": "2.4"}}
    >>> differences(own, {**own, "y": "c", "environment": {"numpy": "2.3"}})
    ['y', 'numpy 2.3 -> 2.4']
    """
    return list(_differences(own, other, varied))


def _differences(
    own: Mapping[str, Any], other: Mapping[str, Any], varied: Collection[str]
) -> Iterator[str]:
    for name, called in (("key_version", "the version of keys"), ("class", "estimator class")):
        if own.get(name) != other.get(name):
            yield f"{called} {other.get(name)} -> {own.get(name)}"
    yield from _of_the_estimator(own, other, varied)
    roles = [*_ROLES, *sorted({n for n in (*own, *other) if str(n).startswith(_DATA)})]
    for name in roles:
        if own.get(name) != other.get(name):
            yield _ROLES.get(name) or f"data {name.removeprefix(_DATA)!r}"
    if own.get("splits") != other.get("splits"):
        yield "splits"
    yield from _of_versions(_mapping(own, "environment"), _mapping(other, "environment"))


def _of_the_estimator(
    own: Mapping[str, Any], other: Mapping[str, Any], varied: Collection[str]
) -> Iterator[str]:
    """Yield the params of the estimator itself that differ, or that it differs otherwise."""
    ours, theirs = _mapping(own, "params"), _mapping(other, "params")
    names = [n for n in dict.fromkeys((*ours, *theirs)) if ours.get(n) != theirs.get(n)]
    yield from (name for name in names if not _is_varied(name, varied))
    same_class = own.get("class") == other.get("class")
    if own.get("estimator") != other.get("estimator") and same_class and not names:
        yield "estimator (its code, or what it has besides params)"


def _is_varied(name: str, varied: Collection[str]) -> bool:
    parts = name.split("__")
    return any("__".join(parts[: n + 1]) in varied for n in range(len(parts)))


def _of_versions(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"{name} {theirs.get(name, 'none')} -> {ours.get(name, 'none')}"


def _mapping(ingredients: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = ingredients.get(name)
    return found if isinstance(found, Mapping) else {}


#: So many earlier searches are looked at.
_MOST_SEARCHES = 200
#: So many lists of candidates of earlier searches are read at most.
_MOST_LISTS = 20
#: So many differences are named.
_SHOWN = 4
_ENDED = ("completed", "failed", "dead")


def explain(store: Store, search: str) -> Explanation:
    """Return what was found out about a search: state, who works, what failed, what was reused."""
    parts = read_parts(store, search)
    if not parts:
        return Explanation((Finding("state", "It is not in the database (any more)."),))
    ids = list(dict.fromkeys(unit_id for part in parts for unit_id in part.listed.ids))
    glances = store.jobs.glances(ids)
    found = [
        *_of_its_state(store, parts, ids, glances),
        *_of_failures(store, ids, glances),
        *_of_reuse(store, parts[0], glances),
    ]
    return Explanation(tuple(found))


def _of_its_state(
    store: Store, parts: Sequence[Part], ids: Sequence[str], glances: Mapping[str, Glance]
) -> Iterator[Finding]:
    counts = Counter(glances[i].state if i in glances else "missing" for i in ids)
    waiting = [one for part in parts for one in ids_that_wait(part.record.id)]
    foreign = len(store.jobs.foreign_for(waiting))
    waits = counts["queued"] + counts["running"] + foreign > 0
    record = parts[-1].record
    state = state_of(record, store.jobs.server_time(), waits=waits)
    done = sum(counts[name] for name in _ENDED)
    more = [f"{n} {name}" for name, n in sorted(counts.items()) if name not in _ENDED]
    said = f"It is {state}: {done} of {_units(len(ids))} have an end"
    yield Finding("state", f"{', '.join([said, *more])}.")
    yield from _of_its_client(record, state)
    if not waits:
        return
    running = store.jobs.running_for(waiting)
    if running:
        yield Finding("running", f"{_who_runs(running)}.")
    yield from _of_losses(store, waiting)
    if foreign:
        yield Finding(
            "other version",
            f"Another version of optomatic queued {_units(foreign)} in a form that this version "
            "does not know. Only workers of that version take them.",
        )
    if counts["queued"]:
        yield from _of_workers(store, waiting, state, bool(running))


def _who_runs(running: Counter[tuple[str, str]]) -> str:
    named = [
        f"{n} by worker {worker[:4]} on {host}" for (worker, host), n in running.most_common(8)
    ]
    rest = f", and others by {len(running) - 8} workers more" if len(running) > 8 else ""
    total = sum(running.values())
    return f"It moves: {_units(total)} in work, {', '.join(named)}{rest}"


def _of_its_client(record: RecordForm, state: str) -> Iterator[Finding]:
    if state == "abandoned" and record.seen_at is not None:
        yield Finding(
            "client",
            f"The process that made it was last seen at {_shown_moment(record.seen_at)}, and has "
            "ended or cannot reach the database. All finished scores are stored, and what it "
            "queued stays queued for standalone workers. Make the same search again to go on.",
        )
    elif state == "left":
        yield Finding("client", "It was left to standalone workers: no process waits for it.")


def _of_losses(store: Store, waiting: Sequence[str]) -> Iterator[Finding]:
    lost = store.jobs.poisonous(waiting)
    if lost:
        yield Finding(
            "losses",
            f"{_units(sum(lost.values()))} ended the scoring process, up to {max(lost)} "
            f"time{'s' if max(lost) > 1 else ''}. Such a unit runs alone, and is given up after "
            f"{timing_here().max_losses} times.",
        )


def _of_workers(store: Store, waiting: Sequence[str], state: str, moves: bool) -> Iterator[Finding]:
    """Yield why nobody takes what is queued, and who refuses."""
    queued = list(dict.fromkeys(queue for one in waiting for queue in store.jobs.queues_of(one)))
    queues = store.workers.queues(queued)
    alive = store.workers.alive(timing_here().lease)
    if len(queues) < len(queued):
        yield Finding(
            "workers",
            "What some queued units ask of workers is not in the database, so none can take them. "
            "Make the search again where its data are: it stores that anew.",
        )
    for refusal in refusing(alive, queues):
        yield Finding("refusal", f"{refusal}. It looks again every minute.")
    if moves:
        return
    if state == "running":
        yield Finding("client", "The process that made it is there, and scores or waits.")
    why = missing_in(alive, queues)
    if why is None and alive:
        yield Finding(
            "workers",
            f"{len(alive)} standalone worker{'s' if len(alive) > 1 else ''} can take the queued "
            "units, and may be busy with others, or about to begin.",
        )
    elif not alive:
        yield Finding("workers", f"No standalone worker has been seen. {_start(store, queues)}")
    else:
        yield from _of_lacks(alive, queues)
        yield Finding("workers", f"None of the workers can score it. {_start(store, queues)}")


def _of_lacks(alive: Sequence[WorkerRecord], queues: Sequence[Queue]) -> Iterator[Finding]:
    for worker in alive:
        for queue in queues:
            if queue.id not in worker.refused and (lack := lacking(worker, queue)):
                who = f"Worker {worker.id[:4]} on {worker.process.host}"
                yield Finding("workers", f"{who} cannot score it: needed is {lack}.")


def _start(store: Store, queues: Sequence[Queue]) -> str:
    tags = sorted({tag for queue in queues for tag in queue.requires})
    return f"Start one: {start_command(store.shown_uri, tags)}"


def _of_failures(
    store: Store, ids: Sequence[str], glances: Mapping[str, Glance]
) -> Iterator[Finding]:
    counts = Counter(glance.state for glance in glances.values())
    if counts["failed"]:
        said = f"{_units(counts['failed'])} failed; errors(), or optomatic errors, groups them."
        yield Finding("failed", said)
    if counts["dead"]:
        yield Finding(
            "given up",
            f"{_units(counts['dead'])} killed each process that scored them, and were given up. "
            "errors(), or optomatic errors, says how they ended; retry_failed=True, or optomatic "
            "retry, runs them again.",
        )
    odd = store.jobs.set_aside(ids)
    if odd:
        yield Finding(
            "set aside",
            f"{len(odd)} records could not be read, and are kept in the state 'invalid': "
            f"{odd[0].why}. Their units are scored again.",
        )


def _of_reuse(store: Store, part: Part, glances: Mapping[str, Glance]) -> Iterator[Finding]:
    record, ids = part.record, part.listed.ids
    stored = {i for i in ids if i in glances and _ended_before(glances[i], record.began_at)}
    if ids and len(stored) == len(ids):
        yield Finding("reuse", f"All {len(ids)} scores were there when it began.")
        return
    reused = f"{len(stored)} of {_units(len(ids))} had a score when it began"
    if "uncertain" in record.ingredients:
        why = record.ingredients["uncertain"]
        yield Finding("reuse", f"{reused}. It is scored for itself only: {why}.")
        return
    found = _most_alike(store, part)
    if found is None:
        yield Finding("reuse", f"{reused}. No earlier search here has its name or kind.")
        return
    earlier, differing = found
    which = f"{earlier.name!r} ({earlier.id}, of {_shown_moment(earlier.began_at)})"
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        also = f" Also: {', '.join(differing[1:_SHOWN])}{more}." if differing[1:] else ""
        yield Finding("reuse", f"{reused}. Other than in {which}: {differing[0]}.{also}")
    else:
        theirs = store.searches.unit_ids(earlier.id)
        said = f"{reused}. {_of_candidates(part, theirs, stored, earlier, which)}."
        yield Finding("reuse", said)


def _of_candidates(
    part: Part, theirs: Sequence[str], stored: set[str], earlier: RecordForm, which: str
) -> str:
    """Say what it is where the ingredients of keys are equal."""
    keys = {key_of(unit_id) for unit_id in theirs}
    common = [unit_id for unit_id in part.listed.ids if key_of(unit_id) in keys]
    text = f"It differs from {which} in its candidates only"
    if len(common) == len(part.listed.ids):
        text = f"It asks for the same units as {which}"
    again = len([unit_id for unit_id in common if unit_id not in stored])
    if again:
        train = part.record.ingredients.get("train_scores")
        lacks = train and not earlier.ingredients.get("train_scores")
        why = "train scores were not asked for there" if lacks else "they had no score then"
        text += f"; of those in both {again} were not reused, as {why}"
    return text


def _names_in(candidates: Sequence[Candidate]) -> set[str]:
    return {name for candidate in candidates if candidate.text for name in names_of(candidate.text)}


def _most_alike(store: Store, part: Part) -> tuple[RecordForm, list[str]] | None:
    """Return the earlier search of this name or kind whose keys differ least, and in what."""
    record = part.record
    varied = _names_in(part.listed.candidates)
    found = [
        (_ingredients_but_params(record, other), other)
        for other in store.searches.earlier(record.began_at, _MOST_SEARCHES)
        if other.part_of is None and (other.name == record.name or _kind(other) == _kind(record))
    ]
    best: tuple[RecordForm, list[str]] | None = None
    lists = 0
    # Stable: among equals the latest comes first.
    for least, other in sorted(found, key=lambda pair: pair[0]):
        if best is not None and len(best[1]) <= least:
            break
        theirs = _comparable(other, record)
        differing = differences(record.ingredients, theirs, varied)
        # A param that only the other search varies does not count, but its list must be read.
        if len(differing) > least and lists < _MOST_LISTS:
            lists += 1
            names = varied | _names_in(store.searches.listed(other.id).candidates)
            differing = differences(record.ingredients, theirs, names)
        if best is None or len(differing) < len(best[1]):
            best = other, differing
    return best


def _ingredients_but_params(record: RecordForm, other: RecordForm) -> int:
    """Return in how many ingredients two searches differ, if all params are varied."""
    params = _mapping(record.ingredients, "params").keys() | _mapping(other.ingredients, "params")
    return len(differences(record.ingredients, _comparable(other, record), params))


def _comparable(earlier: RecordForm, record: RecordForm) -> Mapping[str, Any]:
    """Return the ingredients of `earlier`, with our splits where ours are among its own."""
    ours, theirs = ((one.signature or {}).get("splits") or () for one in (record, earlier))
    if ours and set(ours) <= set(theirs):
        return {**earlier.ingredients, "splits": record.ingredients.get("splits")}
    return earlier.ingredients


def _kind(record: RecordForm) -> str:
    """Return the class of the estimator, or the function."""
    return str(record.ingredients.get("class") or record.estimator)


def _ended_before(glance: Glance, moment: datetime) -> bool:
    return glance.state in _ENDED and glance.ended is not None and glance.ended < moment


def _shown_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _units(count: int) -> str:
    return f"{count} unit{'s' if count != 1 else ''}"
