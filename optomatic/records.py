"""The values that pass between the layers: frozen, and without behaviour.

``plan`` makes :class:`Unit` and :class:`Part`, ``store`` keeps them as documents and
hands out :class:`Lease` and :class:`Job`, ``worker`` turns a job into a
:class:`Result`, ``results`` turns :class:`Outcome` into a table.  Nobody subclasses
these and nothing here imports anything of ours, so that the layers can be strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from optomatic._config import DEFAULT_LEASE

#: Number of the stored formats (unit documents, search records, bundle headers,
#: parameter text).  A reader leaves alone what carries a number it does not know.
SCHEMA = 1


#: Characters of a key that say what is computed; the others stand for versions.
CONTENT = 48


State = Literal["queued", "running", "completed", "failed", "dead", "cancelled"]
#: States that no worker will change by itself.
TERMINAL = ("completed", "failed", "dead", "cancelled")


Scores = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """One content-addressed piece of a bundle: an estimator, X, y, splits, a scorer.

    ``sha`` is the SHA-256 (hex) of ``kind``, a zero byte and the content, so that it
    identifies bytes and the way to read them.  ``buffers`` are joined in order.
    """

    sha: str
    kind: str
    size: int
    buffers: Sequence[bytes | memoryview] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Work:
    """What all units of one search have in common.

    Attributes
    ----------
    kind : {"score", "function", "call"}
    spec : mapping of str to str or None
        ``sha`` of each :class:`Part` by role: ``payload`` (planning/payload.py), ``splits``, and
        data and large arrays that the payload names (``X``, ``y``, ``large0``).
    options : mapping
        Plain values that the worker needs besides: ``return_train_score`` (bool).
    env : mapping of str to str
        Versions that a worker must match to load the parts: ``python`` (minor),
        ``cloudpickle`` (major), ``scikit-learn`` (exact), ``numpy`` (major.minor), ...
    requires : tuple of str
        Tags that a worker must carry.
    queue : str
        Hash of what a worker must be able to do.  Queued work is claimed by queue.
    constraints : str
        Hash of how the work may be run (env, requires, limits, outputs).
    """

    kind: str
    spec: Mapping[str, str | None]
    options: Mapping[str, Any]
    env: Mapping[str, str]
    requires: tuple[str, ...]
    queue: str
    constraints: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the units of a search have in common, written down: enough to make more of them.

    Attributes
    ----------
    key : str
        Of all but the params: version and hash of function and data.
    work : Work
    environment : mapping of str to str
        Versions that count, by distribution.
    """

    key: str
    work: Work
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unit:
    """Candidate x split: the smallest work that has a score.

    ``id`` is ``"u1:<key>:<constraints>"``.  ``params`` is a best effort for people and
    queries; ``params_text`` is exact and the only one that code reads.
    """

    id: str
    key: str
    split: int
    params: Mapping[str, Any]
    params_text: str
    work: Work


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that went wrong while a unit was scored.

    ``stage`` is ``fit``, ``score``, ``train_score``, ``load``, ``limit`` or ``call``;
    ``metric`` the scorer's name where there are several; ``type`` the qualified name of the
    exception (``builtins.ValueError``).
    """

    stage: str
    type: str
    text: str
    traceback: str
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one unit.

    ``test`` and ``train`` are a float, or floats by metric name; ``None`` where there
    are none (the fit failed, no train scores asked for).  A metric that failed is
    absent from the mapping and present in ``failures``.  Times are seconds.  ``extra`` is what
    a scoring function returned beside its score, as text (plan/packing/extras.py).
    """

    test: Scores | None
    train: Scores | None
    fit_time: float
    score_time: float
    n_test: int
    failures: tuple[Failure, ...] = ()
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call of joblib, written down: a batch of functions with their arguments.

    ``unit`` is what is queued for it, ``own`` the part that holds its pickle if that is too
    large for the record; it is removed with the call.
    """

    unit: Unit
    own: Part | None


@dataclass(frozen=True, slots=True)
class Returned:
    """What came of one call of joblib.

    ``data`` is the pickled value or exception, ``part`` the same where it is large; at most
    one of them is there, and only the process that made the call unpickles it.  A call that
    raised has one failure, of stage ``call``, or ``load`` if it could not even begin.
    """

    data: bytes | None = field(default=None, repr=False)
    part: Part | None = None
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The stored end of a call, as the process reads it that made it.

    ``sha`` is the hash of the part that holds the pickle, where ``data`` does not; ``own``
    that of the part with its arguments, if there is one.  Of what cannot be read the state is
    ``invalid``.
    """

    id: str
    state: State | Literal["invalid"]
    data: bytes | None = field(default=None, repr=False)
    sha: str | None = None
    own: str | None = None
    failure: Failure | None = None
    losses: int = 0
    lost_on: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The stored end of a unit, as a search reads it.

    ``id`` is the document that served (under other constraints than the asked ones, maybe).
    ``result`` is present when ``state`` is ``completed`` or ``failed``.  ``lost_on``
    lists hosts, ``history`` the reasons, of a unit that killed its workers.
    """

    id: str
    state: State
    result: Result | None
    worker: str | None = None
    runs: int = 0
    losses: int = 0
    lost_on: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """A unit as one sees it from outside: its params, and what has come of it so far."""

    params: Mapping[str, Any]
    params_text: str
    split: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt at a unit that came to nothing, as its worker ended or was not heard of.

    ``began`` is None if the unit had not been started.
    """

    number: int | None
    worker: str | None
    host: str | None
    began: datetime | None
    at: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Inspected(Described):
    """A unit with all that is known of who scored it, and when.

    Attributes
    ----------
    kind : str
        As of :class:`Work`.
    attempt : int
        Number of the last attempt; 0 if there was none.
    worker, host : str or None
        Who has it now, or has scored it.
    began, ended : datetime or None
        Of the last attempt, by the server's clock.
    lost : tuple of LostAttempt
        The last five of them at most.
    """

    kind: str
    attempt: int
    worker: str | None
    host: str | None
    began: datetime | None
    ended: datetime | None
    lost: tuple[LostAttempt, ...]


@dataclass(frozen=True, slots=True)
class Glance:
    """How far a unit is: its state, and when it came to its end."""

    state: str
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record of a unit that could not be read, and why."""

    id: str
    why: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is known of one candidate: what generators are told, and a row of a frame.

    Attributes
    ----------
    number : int
        Of the candidate in its search, from 0; below 0 if it is one of an earlier search, of
        which a generator is told before it is asked.
    params : mapping
    state : {"pending", "completed", "failed", "stopped", "left out"}
        Pending: queued or being scored.  Failed: not all of its units have a score.  Stopped: by
        racing, so it has the scores of its first splits only.  Left out: by a filter, whose
        reason is in ``error``.
    scores : mapping of str to float
        By metric, ``score`` if there is one without a name; means over the splits that have
        a score, NaN where none has.
    seconds : float
        What its units took together.
    extra : str or None
        What a scoring function returned beside the score, as text.
    error : str or None
        Of a failed one, type and text of the first error.
    """

    number: int
    params: Mapping[str, Any]
    state: Literal["pending", "completed", "failed", "stopped", "left out"]
    scores: Mapping[str, float]
    seconds: float = 0.0
    extra: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A unit in the hands of a worker.  Fields as in the stored document.

    ``searches`` are the ids of the searches that waited for it when it was claimed.
    """

    id: str
    key: str
    queue: str
    kind: str
    split: int
    spec: Mapping[str, str | None]
    options: Mapping[str, Any]
    params_text: str
    attempt: int
    losses: int
    searches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on some jobs, proved by a random 128-bit ``token`` (hex)."""

    token: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """Which process a worker is: enough to tell on the same host that it is gone."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as the store knows it.  ``id`` is random, never host and pid alone.

    ``refused`` says why it leaves queues alone that it has tried, by queue.
    """

    id: str
    kind: Literal["here", "local", "standalone"]
    process: Process
    processes: int
    env: Mapping[str, str]
    tags: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """What a worker must be able to do to be given some work (see :class:`Work`)."""

    id: str
    env: Mapping[str, str]
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate as its search asked for it.

    The document of a unit has the params of the search that queued it first, which may have set
    the same values elsewhere.

    Attributes
    ----------
    text : str or None
        Its exact params; None if they are so long that only its units hold them.
    units : tuple of str
        Ids of its units, one a split.  As stored, the beginnings of their keys.
    shown : mapping of str to str
        Values that are objects, by the name of their param, for people.
    reason : str or None
        Why a filter left it out.
    """

    text: str | None
    units: tuple[str, ...]
    shown: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What the scores of a search are about: whether another one can learn from them.

    Attributes
    ----------
    digest : str
        Hash of all that candidates share but the params of the estimator and the splits: its
        class, data, scorer, params of fit and score, versions; of a function, its code.
    splits : tuple of str
        Hash of each split, so that the key of a unit can be told from its candidate.
    n_train : int
        Rows on which a unit is fitted, the fewest of all splits; 0 for a function.
    """

    digest: str
    splits: tuple[str, ...]
    n_train: int


@dataclass(frozen=True, slots=True)
class EarlierSearch:
    """A search as another one sees it that may learn from it; ``n_units`` so far.

    ``listings`` are the names of the lists of its units.
    """

    id: str
    n_units: int
    subject: Subject
    listings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """One ``fit``: what was asked, by whom, with what.

    ``ingredients`` are short digests of all that the keys of its units are made of, by name, so
    that one can say in which of them two searches differ.  ``facts`` say how its table is made
    (results/stored_table.py).  An iteration of successive halving is ``part_of`` the search of the
    first one, and has ``more`` columns: one value for all its candidates.
    """

    id: str
    name: str
    estimator: str
    space: str
    scoring: str
    n_candidates: int
    n_splits: int
    env: Mapping[str, str]
    process: Process
    subject: Subject | None = None
    ingredients: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    part_of: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    user: str = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed from the database, or would be (``dry_run``).

    Attributes
    ----------
    searches : int
    units : int
        Scores, failures, and units that were withdrawn.
    parts : int
        Estimators, data, splits, functions, and what interrupted uploads have left of some.
    bytes : int
        BSON sizes of all documents, with the lists of units and the sets of versions.  MongoDB
        compresses documents, and uses their place for the next ones.
    dry_run : bool
        Nothing was removed.
    """

    searches: int = 0
    units: int = 0
    parts: int = 0
    bytes: int = 0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """What :func:`optomatic.check_database` has found.  ``str()`` of it is a line for each field.

    Attributes
    ----------
    address : str
        Without credentials.
    server : str
        Whether it is a single server, a replica set or the private one, and on which hosts.
    version : str
        Of MongoDB.
    rights : str
        As whom the server knows us, and what that user may not do.
    write_concern : str
        What is asked of the server before a write counts as done.
    indexes : str
        Which are there, and which are missing.
    size : str
        Documents, bytes, and the free space of the disk where the server tells it.
    problems : tuple of str
        What to mend; empty if all is well.
    """

    address: str
    server: str
    version: str
    rights: str
    write_concern: str
    indexes: str
    size: str
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = [(name.replace("_", " "), getattr(self, name)) for name in self.__slots__[:-1]]
        lines = [f"{name:<14} {text}" for name, text in named]
        return "\n".join([*lines, *(f"problem: {text}" for text in self.problems)])


@dataclass(frozen=True, slots=True)
class Timing:
    """The protocol's durations, in seconds, and how often a unit may kill a worker.

    A worker renews after ``lease / 3``, reaps each ``lease / 6``.  ``unstarted`` is the
    lease of what is claimed but not begun: short, as nobody renews it.
    """

    lease: float = DEFAULT_LEASE
    unstarted: float = 3.0
    max_losses: int = 3


@dataclass(frozen=True, slots=True)
class Held:
    """A claimed unit in the hands of this worker.

    ``at`` is when it was claimed by the worker's clock, ``work`` is equal for units that
    share a bundle and options, ``parts`` are the hashes of what is needed to score it.
    """

    job: Job
    token: str
    at: float
    work: str
    parts: tuple[str, ...]
