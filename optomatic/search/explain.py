"""Explain why a search does not move, and why scores of an earlier one were not reused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from optomatic.planning.params import names_of
from optomatic.records import ENDED, Candidate, Queue, WorkerRecord
from optomatic.search.reader import SearchReader
from optomatic.store.connection import Store
from optomatic.store.documents import RecordForm, key_of
from optomatic.worker.missing_workers import lacking, missing_in, refusing, start_command

#: What keys are made of, in the order in which it is compared, and its name for people.
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
#: So many earlier searches are looked at, and so many lists of their candidates are read at most.
_MOST_SEARCHES, _MOST_LISTS = 200, 20
#: So many differences are named.
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about a search.

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
    """Facts about a search.  It prints as lines.

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


def explain(store: Store, search: str) -> Explanation:
    """Return the state of a search, its workers and failures, and why scores were not reused."""
    reader = SearchReader(store, search)
    if not reader.records:
        return Explanation((Finding("state", "It is not in the database (any more)."),))
    reader.warn_of_lost_lists()
    found = [*_state(store, reader), *_failures(store, reader), *_reuse(store, reader)]
    return Explanation(tuple(found))


# State and workers


def _state(store: Store, reader: SearchReader) -> Iterator[Finding]:
    state, ids, names = reader.state, reader.ids, reader.waiting_ids
    counts = Counter(reader.glances[i].state if i in reader.glances else "missing" for i in ids)
    done = sum(counts[name] for name in ENDED)
    more = [f"{n} {name}" for name, n in sorted(counts.items()) if name not in ENDED]
    said = f"It is {state}: {done} of {_units(len(ids))} ended"
    yield Finding("state", f"{', '.join([said, *more])}.")
    yield from _client(reader.records[-1], state)
    running = store.jobs.running_for(names)
    if running:
        yield Finding("running", f"{_who_runs(running)}.")
    lost = store.jobs.poisonous(names) if counts["queued"] or counts["running"] else None
    if lost:
        yield Finding(
            "losses",
            f"{_units(sum(lost.values()))} ended the scoring process, up to {max(lost)} "
            f"time{'s' if max(lost) > 1 else ''}. Such a unit runs alone, and is given up after "
            f"{store.timing.max_losses} times.",
        )
    if foreign := store.jobs.foreign_for(names):
        yield Finding(
            "other version",
            f"Another version of optomatic queued {_units(len(foreign))} in a form that this "
            "version does not know. Only workers of that version take them.",
        )
    if counts["queued"]:
        yield from _workers(store, names, state, moves=bool(running))


def _client(record: RecordForm, state: str) -> Iterator[Finding]:
    if state == "abandoned" and record.seen_at is not None:
        yield Finding(
            "client",
            f"Its process was last seen at {_moment(record.seen_at)}: it ended, or cannot reach "
            "the database. All finished scores are stored, and queued units stay queued for "
            "standalone workers. Make the same search again to go on.",
        )
    elif state == "left":
        yield Finding("client", "It was left to standalone workers: no process waits for it.")


def _who_runs(running: Counter[tuple[str, str]]) -> str:
    named = [
        f"{n} by worker {worker[:4]} on {host}" for (worker, host), n in running.most_common(8)
    ]
    rest = f", and others by {len(running) - 8} more workers" if len(running) > 8 else ""
    return f"It moves: {_units(sum(running.values()))} in work, {', '.join(named)}{rest}"


def _workers(store: Store, names: Sequence[str], state: str, *, moves: bool) -> Iterator[Finding]:
    """Yield why no worker takes queued units, and which workers refuse them."""
    queued = list(dict.fromkeys(queue for one in names for queue in store.jobs.queues_of(one)))
    queues = store.workers.queues(queued)
    alive = store.workers.alive(store.timing.lease)
    if len(queues) < len(queued):
        yield Finding(
            "workers",
            "The database has lost the requirements of some queued units, so no worker can take "
            "them. Make the search again where its data are: it stores them anew.",
        )
    for refusal in refusing(alive, queues):
        yield Finding("refusal", f"{refusal}. It looks again every minute.")
    if moves:
        return
    if state == "running":
        yield Finding("client", "Its process is there, and scores or waits.")
    if not alive:
        yield Finding("workers", f"No standalone worker has been seen. {_start(store, queues)}")
    elif missing_in(alive, queues) is None:
        yield Finding(
            "workers",
            f"{len(alive)} standalone worker{'s' if len(alive) > 1 else ''} can take the queued "
            "units, and may be busy with others, or about to begin.",
        )
    else:
        yield from _lacks(alive, queues)
        yield Finding("workers", f"None of the workers can score it. {_start(store, queues)}")


def _lacks(alive: Sequence[WorkerRecord], queues: Sequence[Queue]) -> Iterator[Finding]:
    for worker in alive:
        for queue in queues:
            if queue.id not in worker.refused and (lack := lacking(worker, queue)):
                who = f"Worker {worker.id[:4]} on {worker.process.host}"
                yield Finding("workers", f"{who} cannot score it: needed is {lack}.")


def _start(store: Store, queues: Sequence[Queue]) -> str:
    tags = sorted({tag for queue in queues for tag in queue.requires})
    return f"Start one: {start_command(store.shown_uri, tags)}"


def _failures(store: Store, reader: SearchReader) -> Iterator[Finding]:
    counts = Counter(glance.state for glance in reader.glances.values())
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
    odd = store.jobs.set_aside(reader.ids)
    if odd:
        yield Finding(
            "set aside",
            f"{len(odd)} records could not be read, and are kept in the state 'invalid': "
            f"{odd[0].why}. Their units are scored again.",
        )


# Reuse


def _reuse(store: Store, reader: SearchReader) -> Iterator[Finding]:
    record, listed = reader.first, reader.listed(reader.first.id)
    total = len(listed.ids)
    stored = {i for i in listed.ids if _had_ended(reader, i, record.began_at)}
    if total and len(stored) == total:
        yield Finding("reuse", f"All {total} scores were there when it began.")
        return
    reused = f"{len(stored)} of {_units(total)} had a score when it began."
    if "uncertain" in record.ingredients:
        why = f"It is scored for itself only: {record.ingredients['uncertain']}."
        yield Finding("reuse", f"{reused} {why}")
    elif (found := _most_alike(store, record, _names_in(listed.candidates))) is None:
        yield Finding("reuse", f"{reused} No earlier search in the database has its name or kind.")
    else:
        earlier, differing = found
        which = f"{earlier.name!r} ({earlier.id}, of {_moment(earlier.began_at)})"
        if differing:
            why = f"Other than in {which}: {_first_of(differing)}"
        else:
            theirs = {key_of(unit_id) for unit_id in store.searches.unit_ids(earlier.id)}
            common = {unit_id for unit_id in listed.ids if key_of(unit_id) in theirs}
            why = f"It differs from {which} in its candidates only"
            if len(common) == total:
                why = f"It asks for the same units as {which}"
            why += _not_reused(len(common - stored), record, earlier)
        yield Finding("reuse", f"{reused} {why}.")


def _first_of(differing: Sequence[str]) -> str:
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    also = f". Also: {', '.join(differing[1:_SHOWN])}{more}" if differing[1:] else ""
    return f"{differing[0]}{also}"


def _not_reused(count: int, record: RecordForm, earlier: RecordForm) -> str:
    """Say why units of two searches were scored again whose keys are equal."""
    train = record.ingredients.get("train_scores")
    lacks = train and not earlier.ingredients.get("train_scores")
    why = "train scores were not asked for there" if lacks else "they had no score then"
    return f"; of those in both {count} were not reused, as {why}" if count else ""


def _most_alike(
    store: Store, record: RecordForm, varied: Collection[str]
) -> tuple[RecordForm, list[str]] | None:
    """Return the earlier search of this name or kind whose keys differ least, and in what."""
    found = [
        (_differences_but_params(record, other), other)
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
            names = {*varied, *_names_in(store.searches.listed(other.id).candidates)}
            differing = differences(record.ingredients, theirs, names)
        if best is None or len(differing) < len(best[1]):
            best = other, differing
    return best


def _differences_but_params(record: RecordForm, other: RecordForm) -> int:
    """Return in how many ingredients two searches differ if both vary all params."""
    params = {*_mapping(record.ingredients, "params"), *_mapping(other.ingredients, "params")}
    return len(differences(record.ingredients, _comparable(other, record), params))


def _comparable(earlier: RecordForm, record: RecordForm) -> Mapping[str, Any]:
    """Return the ingredients of `earlier`, with our splits where ours are among its own."""
    ours, theirs = ((one.signature or {}).get("splits") or () for one in (record, earlier))
    if ours and set(ours) <= set(theirs):
        return {**earlier.ingredients, "splits": record.ingredients.get("splits")}
    return earlier.ingredients


def differences(
    own: Mapping[str, Any], other: Mapping[str, Any], varied: Collection[str] = ()
) -> list[str]:
    """Return the ingredients of keys in which a search differs from an earlier one, in order.

    The value that a param has in the estimator does not count if the space of either varies it.

    >>> own = {"X": "a", "y": "b", "environment": {"numpy": "2.4"}}
    >>> differences(own, {**own, "y": "c", "environment": {"numpy": "2.3"}})
    ['y', 'numpy 2.3 -> 2.4']
    """
    found = [
        f"{called} {other.get(name)} -> {own.get(name)}"
        for name, called in (("key_version", "the version of keys"), ("class", "estimator class"))
        if own.get(name) != other.get(name)
    ]
    found += _of_the_estimator(own, other, varied)
    data = sorted({str(name) for name in (*own, *other) if str(name).startswith(_DATA)})
    roles = {**_ROLES, **{name: f"data {name.removeprefix(_DATA)!r}" for name in data}}
    roles["splits"] = "splits"
    found += [called for name, called in roles.items() if own.get(name) != other.get(name)]
    ours, theirs = _mapping(own, "environment"), _mapping(other, "environment")
    return found + [
        f"{name} {theirs.get(name, 'none')} -> {ours.get(name, 'none')}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


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


def _names_in(candidates: Iterable[Candidate]) -> set[str]:
    return {name for candidate in candidates if candidate.text for name in names_of(candidate.text)}


def _mapping(ingredients: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = ingredients.get(name)
    return found if isinstance(found, Mapping) else {}


def _kind(record: RecordForm) -> str:
    """Return the class of the estimator, or the function."""
    return str(record.ingredients.get("class") or record.estimator)


def _had_ended(reader: SearchReader, unit_id: str, moment: datetime) -> bool:
    glance = reader.glances.get(unit_id)
    ended = None if glance is None or glance.state not in ENDED else glance.ended
    return ended is not None and ended < moment


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _units(count: int) -> str:
    return f"{count} unit{'s' if count != 1 else ''}"
