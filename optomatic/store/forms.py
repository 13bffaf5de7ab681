"""The forms of stored documents, and their check: nothing is used before it was read here.

Anybody may write to a database: another program, an older version, a hand, a bad disk.  A document
that does not have its form is set aside (:mod:`~optomatic.store.retry`), so that it ends no
worker.  msgspec checks types, strictly: a text is no number.  Documents that say *what* is scored,
and with what outcome, also carry a checksum, so that a value which was changed into another one
of its type is seen as well.

A document with another schema number is another version's, and is left alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct, ValidationError, convert, field, msgpack

from optomatic.records import Process, State

Document = Mapping[str, Any]
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

    def check(self) -> None:
        """Raise Misfit if the values do not belong together."""


F = TypeVar("F", bound=Form)


class Why(Struct):
    """An entry of a unit's history."""

    why: str


class UnitForm(Form):
    """A unit or call, for submit, claim and wait."""

    id: str = field(name="_id")
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

    def check(self) -> None:
        """Raise Misfit if it was changed since it was submitted."""
        _check_unit(self)


class EndForm(Form):
    """The outcome of a unit, for a search."""

    id: str = field(name="_id")
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
        """Raise Misfit if the outcome is not what its worker wrote."""
        if key_of(self.id) != self.key:
            raise Misfit("its key is not the one in its _id")
        if self.state in ("completed", "failed"):
            _check_result(self)
        elif self.state == "dead" and not (self.losses > 0 and self.result is None):
            raise Misfit("it is dead, and ended nobody")


class DescribedForm(EndForm):
    """A unit, for views."""

    constraints: str
    queue: str
    kind: Literal["score", "function", "call"]
    spec: dict[str, Any]
    options: dict[str, Any]
    params: dict[str, Any]
    params_text: str
    checksum: str

    def check(self) -> None:
        """Raise Misfit if it was changed since it was submitted, or ended."""
        super().check()
        _check_unit(self)


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


class QueueForm(Form):
    """The versions and tags that a queue needs."""

    id: str = field(name="_id")
    env: list[tuple[str, str]]
    requires: list[str]


class WorkerForm(Form):
    """A worker."""

    id: str = field(name="_id")
    kind: Literal["here", "local", "standalone"]
    process: Process
    processes: int
    env: dict[str, str]
    tags: list[str]
    refused: dict[str, str] | None = None


class SearchForm(Form):
    """A search, for other processes."""

    id: str = field(name="_id")
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

    def check(self) -> None:
        """Raise Misfit if the task of the search was changed."""
        about = (self.signature, self.listing, self.facts, self.part_of, self.more)
        if self.checksum != checksum_of(self.id, self.name, *about):
            raise Misfit("what it is about does not match its checksum")


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

    key: str
    work: dict[str, Any]
    environment: list[tuple[str, str]]
    checksum: str

    def check(self) -> None:
        """Raise Misfit if it was changed."""
        if self.checksum != checksum_of(self.key, self.work, self.environment):
            raise Misfit("it does not match its checksum")


class PageForm(Form):
    """A page of a list of units; the one that names parts grows, and has no checksum."""

    id: str = field(name="_id")
    ids: list[str]
    checksum: str = ""
    events: list[Any] = []
    candidates: list[tuple[str | None, str, list[tuple[str, str]], str | None]] = []
    parts: list[str] = []

    def check(self) -> None:
        """Raise Misfit if it was changed."""
        if not PAGE.fullmatch(self.id):
            raise Misfit("its _id is none of a page")
        if self.id.endswith(":-1"):
            return
        if self.checksum != checksum_of(self.id, self.ids, self.events, self.candidates):
            raise Misfit("it does not match its checksum")


#: The id of a page, and that of a chunk.
PAGE = re.compile(r".+:-?\d{1,18}", re.DOTALL)


class VersionsForm(Form):
    """The versions behind the end of keys."""

    id: str = field(name="_id")
    versions: list[tuple[str, str]]


class HeaderForm(Form):
    """The header of a part that is whole."""

    id: str = field(name="_id")
    kind: str
    size: int
    chunks: int
    checksum: str

    def check(self) -> None:
        """Raise Misfit if it was changed."""
        if self.checksum != checksum_of(self.id, self.kind, self.size, self.chunks):
            raise Misfit("it does not match its checksum")


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


_OF_A_UNIT = ("_id", "key", "constraints", "queue", "kind", "spec", "options", "params_text")


def unit_checksum(document: Document) -> str:
    """Return the checksum of the fields that say what to score, and how."""
    return checksum_of(*map(document.get, _OF_A_UNIT))


def _check_unit(unit: UnitForm | DescribedForm) -> None:
    own = (unit.id, unit.key, unit.constraints, unit.queue, unit.kind, unit.spec, unit.options)
    if checksum_of(*own, unit.params_text) != unit.checksum:
        raise Misfit("what says what to score does not match its checksum")


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
