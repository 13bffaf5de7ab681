"""Stored documents: their fields, types and checksums, and how records become documents.

Anybody may write to a database: another program, an older version, a hand, a bad disk.  A document
that does not have its form is set aside (:mod:`~optomatic.store.retry`), so that it ends no
worker.  msgspec checks types, strictly: a text is no number.  Documents that say which work is
scored, and with which outcome, also carry a checksum: a value that was changed into another one
of its type is found as well.

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

Where a search queues many units, some are one document: a batch (:mod:`~.batches`).  It has the
fields of a queued or running unit that are equal for all of them, an empty ``key`` and
``params_text``, and::

    _id         "batch:<search>:<random>"
    size, ids   its units
    began       places in ids of those that were started and have no result yet
    packed      {units: [{split, params, params_text, checksum: that of its own document}]}, as
                compressed BSON: each update writes the whole document

A call of joblib has some more (:mod:`~.calls`).  To restore an invalid document, give it back its
former state.

To change it, raise ``records.SCHEMA``, go on reading the old number, and keep a document of the
old form in the tests.  Claim and reap leave documents with another number alone.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import bson
from bson.binary import Binary
from bson.codec_options import CodecOptions
from msgspec import Meta, Struct, ValidationError, convert, field, msgpack

from optomatic.errors import RecordTooLarge
from optomatic.records import (
    SCHEMA,
    Failure,
    Job,
    Outcome,
    Process,
    Result,
    Returned,
    State,
    Unit,
    Work,
)

Document = dict[str, Any]
Count = Annotated[int, Meta(ge=0)]
#: The state of a document that cannot be read.
INVALID = "invalid"
#: Characters of a checksum.
_CHECKSUM = 32
#: Characters of an error's text that are shown and stored.
_SHOWN = 300


class Misfit(Exception):
    """A document does not have its form; the text says where."""


class Form(Struct):
    """The fields of a document that are read, and their types."""

    #: Fields that must not change: ``checksum`` is theirs.
    sealed: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        """Raise Misfit if the values do not belong together."""
        if not self.sealed:
            return
        own = [getattr(self, name) for name in self.sealed]
        if checksum_of(*own) != getattr(self, "checksum", None):
            raise Misfit(f"it does not match its checksum (of {', '.join(self.sealed)})")


F = TypeVar("F", bound=Form)


class _Identified(Form):
    id: str = field(name="_id")


class Why(Struct):
    """An entry of a unit's history."""

    why: str


_OF_A_UNIT = ("id", "key", "constraints", "queue", "kind", "spec", "options", "params_text")


class UnitForm(_Identified):
    """A unit or call, for submit, claim and wait."""

    sealed: ClassVar[tuple[str, ...]] = _OF_A_UNIT
    key: str
    constraints: str
    queue: str
    kind: Literal["score", "function", "call"]
    spec: dict[str, Any]
    options: dict[str, Any]
    params_text: str
    checksum: str
    state: State
    wanted_by: list[str]
    priority: int
    sequence: int
    attempt: Count
    runs: Count
    losses: Count
    lost_on: list[str]
    history: list[Why]
    started: bool
    claim: str | None
    worker: str | None
    lease_until: datetime | None


class BatchForm(UnitForm, kw_only=True):
    """A batch of units."""

    sealed = (*_OF_A_UNIT, "ids", "packed")
    size: Count
    ids: list[str]
    began: list[Count]
    packed: bytes

    def check(self) -> None:
        """Raise Misfit if it was changed."""
        super().check()
        if len(self.ids) != self.size or max(self.began, default=0) >= self.size:
            raise Misfit("it has not as many units as it says")


class EndForm(_Identified):
    """The outcome of a unit, for a search."""

    key: str
    state: State
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    completed_by: str | None
    completed_at: datetime | None
    runs: Count
    losses: Count
    lost_on: list[str]
    history: list[Why]

    def check(self) -> None:
        """Raise Misfit if the outcome was changed since its worker wrote it."""
        super().check()
        if key_of(self.id) != self.key:
            raise Misfit("its key is not the one in its _id")
        if self.state in ("completed", "failed"):
            _check_result(self)
        elif self.state == "dead" and not (self.losses > 0 and self.result is None):
            raise Misfit("it is dead, and ended nobody")


class DescribedForm(EndForm):
    """A unit, for views."""

    sealed = _OF_A_UNIT
    constraints: str
    queue: str
    kind: Literal["score", "function", "call"]
    spec: dict[str, Any]
    options: dict[str, Any]
    params: dict[str, Any]
    params_text: str
    checksum: str


class Loss(Why):
    """An entry of a unit's history, for people: odd values in it do no harm."""

    attempt: Any = None
    worker: Any = None
    host: Any = None
    began: Any = None
    at: Any = None


class InspectedForm(DescribedForm):
    """A unit with its worker and its times."""

    attempt: Count
    history: list[Loss]  # type: ignore[assignment]  # msgspec reads them in this form
    worker: Any = None
    host: Any = None
    started: Any = None
    claimed_at: Any = None
    started_at: Any = None
    completed_on: Any = None


class CallEndForm(EndForm):
    """The outcome of a joblib call, for its client."""

    own: str | None


class QueueForm(_Identified):
    """The versions and tags that a queue needs."""

    env: list[tuple[str, str]]
    requires: list[str]


class WorkerForm(_Identified):
    """A worker."""

    kind: Literal["here", "local", "standalone"]
    process: Process
    processes: int
    env: dict[str, str]
    tags: list[str]
    refused: dict[str, str] | None = None


class PresentForm(WorkerForm, kw_only=True):
    """A worker, and when it was there."""

    began_at: datetime
    seen_at: datetime


class RunningForm(_Identified):
    """A unit that is being scored, or a call of joblib that runs."""

    kind: str
    params: dict[str, Any]
    spec: dict[str, Any]
    wanted_by: list[str]
    worker: str | None
    claimed_at: datetime
    attempt: int
    host: str | None = None
    started_at: datetime | None = None


class SearchForm(_Identified):
    """A search, for other processes."""

    sealed = ("id", "name", "signature", "listing", "facts", "part_of", "more")
    name: str
    state: Literal["running", "completed", "interrupted", "cancelled"]
    n_units: int
    began_at: datetime
    seen_at: datetime | None
    ended_at: datetime | None
    signature: dict[str, Any] | None
    listing: str | None
    checksum: str
    facts: dict[str, Any]
    part_of: str | None
    more: dict[str, Any]
    asked: dict[str, Any] | None = None
    extended: bool = False


class RecordForm(SearchForm, kw_only=True):
    """A search, for views."""

    estimator: str
    space: str
    scoring: str
    n_candidates: int
    n_splits: int
    process: Process
    env: dict[str, str]
    ingredients: dict[str, Any]
    summary: dict[str, Any] | None
    best: dict[str, Any] | None
    withdrawn: bool = False


class JobSpecForm(Form):
    """The job spec by which more units of a search can be made."""

    sealed = ("key", "work", "environment")
    key: str
    work: dict[str, Any]
    environment: list[tuple[str, str]]
    checksum: str


class PageForm(_Identified):
    """A page of a list of units; the one that names parts grows, and has no checksum."""

    sealed = ("id", "ids", "events", "candidates")
    ids: list[str]
    checksum: str = ""
    events: list[Any] = []
    candidates: list[tuple[str | None, str, list[tuple[str, str]], str | None]] = []
    parts: list[str] = []

    def check(self) -> None:
        """Raise Misfit if it was changed."""
        if not is_piece(self.id):
            raise Misfit("its _id is none of a page")
        if not self.id.endswith(":-1"):
            super().check()


class ListedForm(_Identified):
    """A search as a list shows it."""

    name: str
    state: str
    n_units: int
    began_at: datetime
    seen_at: datetime | None
    ended_at: datetime | None
    process: Process
    estimator: str = ""
    summary: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    user: str = ""
    listing: str | None = None
    part_of: str | None = None


class VersionsForm(_Identified):
    """The versions behind the end of keys."""

    versions: list[tuple[str, str]]


class HeaderForm(_Identified):
    """The header of a part that is whole."""

    sealed = ("id", "kind", "size", "chunks")
    kind: str
    size: int
    chunks: int
    checksum: str


#: The id of a page of a list, or of a chunk of a part.
_PIECE = re.compile(r".+:-?\d{1,18}", re.DOTALL)


def is_piece(name: Any) -> bool:
    """Return whether :func:`piece_of` can read the id of a page or a chunk."""
    return isinstance(name, str) and _PIECE.fullmatch(name) is not None


def piece_of(name: str) -> tuple[str, int]:
    """Split the id of a page or a chunk into the list or part and the number."""
    whole, _, number = name.rpartition(":")
    return whole, int(number)


def pieces_of(whole: str) -> dict[str, Any]:
    """Return the query for all pages of a list, or all chunks of a part."""
    return {"_id": {"$gte": f"{whole}:", "$lt": f"{whole};"}}  # ";" comes right after ":"


@cache
def fields_of(form: type[Form]) -> dict[str, int]:
    """Return the projection that a form is read with."""
    return dict.fromkeys(form.__struct_encode_fields__, 1)


def read(form: type[F], document: Document) -> F:
    """Return `document` in its form; raise Misfit if it does not have it."""
    try:
        whole = convert(document, form, strict=True)
    except ValidationError as error:
        raise Misfit(str(error)[:_SHOWN]) from None
    whole.check()
    return whole


def checksum_of(*values: Any) -> str:
    """Return the checksum of stored values.

    >>> checksum_of("a", 1, 0.5) == checksum_of("a", 1.0, 0.5)
    False
    """
    return hashlib.sha256(_encoder.encode(values)).hexdigest()[:_CHECKSUM]


def _plain(value: Any) -> Any:
    """Return the type that MongoDB makes of `value`, or its text if it stores no such type."""
    kinds: tuple[Any, ...] = (int, float, str, bytes, list, dict)
    return next((kind(value) for kind in kinds if isinstance(value, kind)), repr(value))


#: Tells all types apart.
_encoder = msgpack.Encoder(enc_hook=_plain)


def result_checksum(unit_id: str, result: Document, error: Document | None) -> str:
    """Return the checksum of the outcome of a unit."""
    own = [pair for pair in result.items() if pair[0] != "checksum"]
    return checksum_of(unit_id, own, error)


def _check_result(end: EndForm) -> None:
    if end.result is None or end.completed_at is None or end.completed_by is None:
        raise Misfit(f"it is {end.state}, and has no result")
    if (end.error is None) != (end.state == "completed"):
        raise Misfit(f"it is {end.state}, and has {'no' if end.error is None else 'an'} error")
    if result_checksum(end.id, end.result, end.error) != end.result.get("checksum"):
        raise Misfit("its result does not match its checksum")


def key_of(unit_id: str) -> str:
    """Return the key in the id of a unit, empty if there is none."""
    return unit_id.partition(":")[2].partition(":")[0]


_TEXT, _TRACEBACK = 8_000, 32_000
#: So many failures of one unit are kept with their texts (one a metric and stage).
_FAILURES = 20
_PARAMS = 16_000
#: MongoDB's limit is 16 MiB; fields that are added later need some room.
_LARGEST = 15_000_000


_NOT_YET = (
    "claimed_at", "started_at", "result", "result_sig", "completed_by", "completed_on",
    "completed_at", "error",
)  # fmt: skip
#: The fields of a unit while no worker has it.
NOBODY: Mapping[str, Any] = {
    "worker": None,
    "host": None,
    "claim": None,
    "started": False,
    "lease_until": None,
}


def unit_documents(
    units: Sequence[Unit], search: str, priority: int = 0, first: int = 0
) -> list[Document]:
    """Return the documents of units that were never claimed, the first as number `first`."""
    documents: list[Document] = []
    common: Document = {}
    work = None
    for sequence, unit in enumerate(units, first):
        if unit.work is not work:
            work = unit.work
            common = _common(work, search, priority)
        document = {
            "_id": unit.id,
            "key": unit.key,
            **common,
            "spec": {**common["spec"], "split": unit.split},
            "params": _readable(unit),
            "params_text": unit.params_text,
            "sequence": sequence,
        }
        sealed = [document["_id" if name == "id" else name] for name in _OF_A_UNIT]
        document["checksum"] = checksum_of(*sealed)
        documents.append(document)
    return documents


def _common(work: Work, search: str, priority: int) -> Document:
    """Return the fields that all units of a search have in common."""
    env = "|".join(f"{name} {version}" for name, version in sorted(work.env.items()))
    return {
        "constraints": work.constraints,
        "queue": work.queue,
        "v": SCHEMA,
        "kind": work.kind,
        "spec": {**work.spec, "split": 0, "env": env},
        "options": dict(work.options),
        "sig": None,
        "wanted_by": [search],
        "priority": priority,
        "state": "queued",
        **dict.fromkeys(("attempt", "runs", "losses", "machine_failures"), 0),
        "lost_on": [],
        "history": [],
        **NOBODY,
        **dict.fromkeys(_NOT_YET),
    }


def check_sizes(units: Sequence[Unit]) -> None:
    """Raise :class:`RecordTooLarge` if a unit is: it would fail its neighbours in a bulk too."""
    largest = max((len(unit.params_text) for unit in units), default=0)
    if largest > _LARGEST:
        raise RecordTooLarge(
            f"The params of a candidate take {largest:,} bytes, and MongoDB stores "
            "at most 16 MB in one record. Nothing was queued. Pass large values (arrays, "
            "estimators) as objects that stand in the estimator instead of in the space."
        )


def _readable(unit: Unit) -> Mapping[str, Any]:
    """Return the params of a unit for people."""
    if len(unit.params_text) > _PARAMS:
        return {"(too long)": unit.params_text[:200]}
    return unit.params


#: The fields of a batch that its units have not, or each their own.
_OF_A_BATCH = frozenset(
    ("_id", "key", "spec", "params", "params_text", "checksum", "size", "ids", "began", "packed")
)
#: The fields that units of a batch have of their own, besides id and split.
_OWN = ("params", "params_text", "checksum")
_AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True)


def batch_document(documents: Sequence[Document], name: str) -> Document:
    """Return one document for new units, which differ in split and params alone."""
    first = documents[0]
    own = [
        {"split": document["spec"]["split"], **{field: document[field] for field in _OWN}}
        for document in documents
    ]
    common = {field: value for field, value in first.items() if field not in _OF_A_BATCH}
    batch = {
        "_id": name,
        "size": len(documents),
        **common,
        "key": "",
        "params_text": "",
        "spec": {**first["spec"], "split": 0},
        "began": [],
        "ids": [document["_id"] for document in documents],
        "packed": zlib.compress(bson.encode({"units": own}), level=1),
    }
    sealed = [batch["_id" if field == "id" else field] for field in BatchForm.sealed]
    return {**batch, "checksum": checksum_of(*sealed)}


def own_fields(batch: Document) -> dict[str, Document]:
    """Return the fields that units of a batch have of their own, by id."""
    units = bson.decode(zlib.decompress(batch["packed"]), _AWARE)["units"]
    for place, unit in enumerate(units):
        unit["sequence"] = batch["sequence"] + place
    return dict(zip(batch["ids"], units, strict=True))


def unpacked(
    batch: Document,
    units: Mapping[str, Document],
    fields: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Document]:
    """Return the documents of some units of a batch, in its state but for `fields` of units."""
    common = {name: value for name, value in batch.items() if name not in _OF_A_BATCH}
    spec, fields = batch["spec"], fields or {}
    return [
        {
            "_id": unit_id,
            "key": key_of(unit_id),
            **common,
            "spec": {**spec, "split": own["split"]},
            "params": own["params"],
            "params_text": own["params_text"],
            "checksum": own["checksum"],
            "sequence": own["sequence"],
            **fields.get(unit_id, {}),
        }
        for unit_id, own in units.items()
    ]


def jobs_of(unit: UnitForm, units: Mapping[str, Document] | None = None) -> list[Job]:
    """Return a claimed unit, or those `units` of a claimed batch, as jobs."""
    spec = {name: sha for name, sha in unit.spec.items() if name not in ("split", "env")}
    own = [(unit.id, unit.spec["split"], unit.params_text)]
    if units is not None:
        own = [(unit_id, one["split"], one["params_text"]) for unit_id, one in units.items()]
    searches = tuple(unit.wanted_by)
    return [
        Job(
            id=unit_id,
            key=key_of(unit_id),
            queue=unit.queue,
            kind=unit.kind,
            split=split,
            spec=spec,
            options=unit.options,
            params_text=text,
            attempt=unit.attempt,
            losses=unit.losses,
            searches=searches,
        )
        for unit_id, split, text in own
    ]


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
    if result.extra is not None:
        document["extra"] = result.extra
    if result.prefix_time_saved:
        document["prefix_time_saved"] = result.prefix_time_saved
    return document


def _scores(scores: Any) -> Any:
    """Store scores by metric as pairs: not every name of a metric may name a field."""
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
    """Replace lone surrogates, which MongoDB's UTF-8 cannot hold."""
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
        tuple([entry.why for entry in end.history]),
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
        float(stored.get("prefix_time_saved", 0.0)),
    )


def _read_scores(stored: Any) -> Any:
    if isinstance(stored, list):
        return {name: float(score) for name, score in stored}
    return None if stored is None else float(stored)
