"""Records <-> documents.

The document of a unit (collection ``units``), schema 1::

    _id         "u1:<key>:<constraints>"
    key         what is computed                 constraints     how it may be run
    checksum    of all that says what to score, and how
    queue       what a worker must be able to do v, kind   schema; "score"
    spec        hashes of the parts by role, "split", "env"
    options     plain values the worker needs
    params      for people and queries           params_text  exact; the only one code reads
    sig, result_sig   room for signatures
    wanted_by   ids of the searches that still wait (with a + behind: see searches)
    priority, sequence   the order of claims: higher priority first, then lower sequence
    state       queued | running | completed | failed | dead | cancelled
    attempt     claims so far      runs      starts so far      losses  leases lost after start
    lost_on     hosts of losses    machine_failures  times it failed for want of memory and such
    worker, host, claim, started, lease_until    who has it now (server's clock)
    claimed_at, started_at      of the last attempt
    result, completed_by, completed_on (its host), completed_at
                result.extra: what a function returned beside its score, as text;
                result.checksum: of result and error
    history     the last 5 of {attempt, worker, host, began, at, why}: attempts that were lost
    error       {type, text, traceback, stage, metric, failures: [all of them]}

    notified_at when idle workers were last woken for it
    invalid     {state, why, by, at, token, of}: of a document that could not be read, whose
                state is ``invalid`` then.  Its former state is kept there, and all else in
                place.  Where the unit was queued anew, ``of`` is its id.

A call of joblib has some more (:mod:`~.calls`).  Each document is checked as it is read
(:mod:`~.forms`); to restore an invalid document, give it back its former state.

To change it: raise ``records.SCHEMA``, let readers go on to read the old number, and keep a
document of the old form in the tests.  Claim and reap leave alone what has another number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson.binary import Binary

from optomatic.errors import RecordTooLarge
from optomatic.records import SCHEMA, Failure, Job, Outcome, Result, Returned, Unit
from optomatic.store.forms import EndForm, Misfit, UnitForm, result_checksum, unit_checksum

Document = dict[str, Any]


_TEXT, _TRACEBACK = 8_000, 32_000
#: So many failures of one unit are kept with their texts (one a metric and stage).
_FAILURES = 20
_PARAMS = 16_000
#: MongoDB's limit is 16 MiB; what the server adds later needs some room.
_LARGEST = 15_000_000


#: The fields of a unit while no worker has it.
NOBODY: Mapping[str, Any] = {
    "worker": None,
    "host": None,
    "claim": None,
    "started": False,
    "lease_until": None,
}


def unit_document(unit: Unit, search: str, priority: int, sequence: int) -> Document:
    """Return the document of a unit that was never claimed.

    Raise :class:`RecordTooLarge` if it is: it would fail its neighbours in a bulk too.
    """
    if len(unit.params_text) > _LARGEST:
        raise RecordTooLarge(
            f"The params of a candidate take {len(unit.params_text):,} bytes, and MongoDB stores "
            "at most 16 MB in one record. Nothing was queued. Pass large values (arrays, "
            "estimators) as objects that stand in the estimator instead of in the space."
        )
    work = unit.work
    document = {
        "_id": unit.id,
        "key": unit.key,
        "constraints": work.constraints,
        "queue": work.queue,
        "v": SCHEMA,
        "kind": work.kind,
        "spec": {**work.spec, "split": unit.split, "env": env_text(work.env)},
        "options": dict(work.options),
        "params": readable(unit),
        "params_text": unit.params_text,
        "sig": None,
        "wanted_by": [search],
        "priority": priority,
        "sequence": sequence,
        "state": "queued",
        "attempt": 0,
        "runs": 0,
        "losses": 0,
        "lost_on": [],
        "machine_failures": 0,
        **NOBODY,
        "claimed_at": None,
        "started_at": None,
        "result": None,
        "result_sig": None,
        "completed_by": None,
        "completed_on": None,
        "completed_at": None,
        "error": None,
        "history": [],
    }
    return {**document, "checksum": unit_checksum(document)}


def readable(unit: Unit) -> Mapping[str, Any]:
    """Return the params for people, or a note where they are too long to read."""
    if len(unit.params_text) > _PARAMS:
        return {"(too long)": unit.params_text[:200]}
    return unit.params


def env_text(env: Mapping[str, str]) -> str:
    """Write an environment in one line: ``cloudpickle 3|numpy 2.4|python 3.11``."""
    return "|".join(f"{name} {env[name]}" for name in sorted(env))


def job_of(unit: UnitForm, *, attempt: int, losses: int) -> Job:
    """Return a claimed unit as a job."""
    spec = dict(unit.spec)
    split = spec.pop("split")
    spec.pop("env", None)
    return Job(
        id=unit.id,
        key=unit.key,
        queue=unit.queue,
        kind=unit.kind,
        split=split,
        spec=spec,
        options=unit.options,
        params_text=unit.params_text,
        attempt=attempt,
        losses=losses,
        searches=tuple(unit.wanted_by),
    )


def result_document(unit_id: str, result: Result | Returned, error: Document | None) -> Document:
    """Return the stored form of the result of a unit or a call, beside its `error`."""
    document = _result(result)
    return {**document, "checksum": result_checksum(unit_id, document, error)}


def _result(result: Result | Returned) -> Document:
    if isinstance(result, Returned):
        data = None if result.data is None else Binary(result.data)
        return {"data": data, "sha": result.part and result.part.sha}
    document = {
        "test": _scores(result.test),
        "train": _scores(result.train),
        "fit_time": result.fit_time,
        "score_time": result.score_time,
        "n_test": result.n_test,
    }
    return document if result.extra is None else {**document, "extra": result.extra}


def _scores(scores: Any) -> Any:
    """Store scores by metric as pairs: a metric's name may hold what a field's must not."""
    return [list(pair) for pair in scores.items()] if isinstance(scores, Mapping) else scores


def error_document(failures: Sequence[Failure]) -> Document:
    """Return the stored form of failures, cut to a size that always fits."""
    kept = [_failure(f) for f in failures[:_FAILURES]]
    return {**kept[0], "failures": kept}


def _failure(failure: Failure) -> Document:
    return {
        "stage": failure.stage,
        "metric": failure.metric and storable(failure.metric),
        "type": storable(failure.type),
        "text": storable(failure.text[:_TEXT]),
        "traceback": storable(_middle_out(failure.traceback)),
    }


def _middle_out(text: str) -> str:
    """Cut a long traceback in the middle: its begin and its end both matter."""
    if len(text) <= _TRACEBACK:
        return text
    half = _TRACEBACK // 2
    return f"{text[:half]}\n  ...\n{text[-half:]}"


def storable(text: str) -> str:
    """Replace what MongoDB's UTF-8 cannot hold (lone surrogates)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def outcome_of(end: EndForm) -> Outcome:
    """Return the outcome of a unit.  Scores are read as plain numbers, nothing else.

    Raise Misfit if it is that of another kind of work.
    """
    try:
        result = None if end.result is None else _read_result(end.result, failures_of(end))
    except (LookupError, TypeError, ValueError) as error:
        raise Misfit(f"its result cannot be read ({type(error).__name__}: {error})") from None
    return Outcome(
        end.id,
        end.state,
        result,
        end.completed_by,
        end.runs,
        end.losses,
        tuple(end.lost_on),
        tuple(entry.why for entry in end.history),
    )


def failures_of(end: EndForm) -> tuple[Failure, ...]:
    """Return the failures of a unit or a call."""
    return tuple(Failure(**failure) for failure in end.error["failures"]) if end.error else ()


def _read_result(stored: Document, failures: tuple[Failure, ...]) -> Result:
    return Result(
        _read_scores(stored["test"]),
        _read_scores(stored["train"]),
        float(stored["fit_time"]),
        float(stored["score_time"]),
        int(stored["n_test"]),
        failures,
        stored.get("extra"),
    )


def _read_scores(stored: Any) -> Any:
    if isinstance(stored, list):
        return {name: float(score) for name, score in stored}
    return None if stored is None else float(stored)
