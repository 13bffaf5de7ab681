"""Values that pass between layers: frozen, and without behaviour.

``planning`` makes :class:`Unit` and :class:`Part`.  ``store`` keeps them as documents, and hands
out :class:`Lease` and :class:`Job`.  ``worker`` turns a job into a :class:`Result`, and
``results`` turns :class:`Outcome` into a table.  Those that are made of each unit of a search are
structs, which are made faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct

from optomatic._config import DEFAULT_LEASE
from optomatic.errors import BundleDamaged

#: Number of the stored formats (units, searches, headers of payloads, params as text).  Readers
#: leave records with another number alone.
SCHEMA = 1


#: Characters of a key for what is computed; the others are for versions.
CONTENT = 48


State = Literal["queued", "running", "completed", "failed", "dead", "cancelled"]
#: States of a unit that waits for its end.
UNFINISHED = ("queued", "running")
#: States of a unit that has an outcome.
ENDED = ("completed", "failed", "dead")
#: States of a unit that ended without a score.
SCORELESS = ("failed", "dead")
#: States that no worker changes by itself.
TERMINAL = (*ENDED, "cancelled")


Scores = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A stored piece of content, by its hash: a payload, X, y, splits.

    ``sha`` is the SHA-256 (hex) of ``kind``, a zero byte and the content.  So it identifies the
    bytes and how to read them.  ``buffers`` are joined in order.
    """

    sha: str
    kind: str
    size: int
    buffers: Sequence[bytes | memoryview] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Work:
    """The common part of all units of a search.

    Attributes
    ----------
    kind : {"score", "function", "call"}
    spec : mapping of str to str or None
        ``sha`` of each :class:`Part` by role: ``payload``, ``splits``, and data and large arrays
        that the payload names (``X``, ``y``, ``large0``).
    options : mapping
        Plain values for the worker, such as ``return_train_score`` (bool).
    env : mapping of str to str
        Versions that a worker must match to load the parts: ``python`` (minor),
        ``cloudpickle`` (major), ``scikit-learn`` (exact), ``numpy`` (major.minor), ...
    requires : tuple of str
        Tags that a worker must carry.
    queue : str
        Hash of what a worker needs; workers claim by queue.
    constraints : str
        Hash of how the work must be run (env, requires, limits, outputs).
    """

    kind: str
    spec: Mapping[str, str | None]
    options: Mapping[str, Any]
    env: Mapping[str, str]
    requires: tuple[str, ...]
    queue: str
    constraints: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The stored common part of units of a function, from which more of them can be made.

    ``key`` is that of all but the params.  ``environment`` has the versions that count.
    """

    key: str
    work: Work
    environment: Mapping[str, str]


class Unit(Struct, frozen=True):
    """A candidate on one split: the smallest work that has a score.

    ``id`` is ``"u1:<key>:<constraints>"``.  ``params`` are for people and queries;
    ``params_text`` is exact, and code reads only that.
    """

    id: str
    key: str
    split: int
    params: Mapping[str, Any]
    params_text: str
    work: Work


@dataclass(frozen=True, slots=True)
class Failure:
    """An error while a unit was scored.

    ``stage`` is ``fit``, ``score``, ``train_score``, ``load``, ``limit`` or ``call``.  ``type`` is
    the qualified name of the exception (``builtins.ValueError``).  ``metric`` is the scorer's
    name if there are several.
    """

    stage: str
    type: str
    text: str
    traceback: str
    metric: str | None = None


class Result(Struct, frozen=True):
    """The result of one unit.

    ``test`` and ``train`` are a float, or floats by metric name; None if the fit failed, or train
    scores were not asked for.  A failed metric is only in ``failures``.  Times are seconds.
    ``extra`` has all that a scoring function returned beside its score, as text.
    ``prefix_time_saved`` are the seconds that steps of a pipeline took that were not fitted again.
    """

    test: Scores | None
    train: Scores | None
    fit_time: float
    score_time: float
    n_test: int
    failures: tuple[Failure, ...] = ()
    extra: str | None = None
    prefix_time_saved: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A stored call of joblib: a batch of functions with their arguments.

    ``unit`` is queued for it.  ``own`` is a part with its pickle if that is too large for the
    record; it is removed with the call.
    """

    unit: Unit
    own: Part | None


@dataclass(frozen=True, slots=True)
class Returned:
    """The result of a call of joblib.

    ``data``, or ``part`` if it is large, is the pickled value or exception, which only the caller
    unpickles.  A call that raised has one failure, of stage ``call``, or ``load`` before it began.
    """

    data: bytes | None = field(default=None, repr=False)
    part: Part | None = None
    failures: tuple[Failure, ...] = ()


_DAMAGED = f"{BundleDamaged.__module__}.{BundleDamaged.__qualname__}"


class Outcome(Struct, frozen=True):
    """The stored end of a unit.

    ``id`` is that of the document, which may have other constraints than the asked ones.
    Completed and failed units have a ``result``.  ``lost_on`` are the hosts, ``history`` the
    reasons, of a unit that killed its workers.
    """

    id: str
    state: State
    result: Result | None
    worker: str | None = None
    runs: int = 0
    losses: int = 0
    lost_on: tuple[str, ...] = ()
    history: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """True once no worker will change the unit by itself."""
        return self.state in ENDED

    @property
    def lacks_parts(self) -> bool:
        """True if parts that the unit needs were damaged in the store."""
        failures = self.result.failures if self.result else ()
        return any(f.stage == "load" and f.type == _DAMAGED for f in failures)


class Described(Struct, frozen=True):
    """A unit with its params and its outcome so far."""

    params: Mapping[str, Any]
    params_text: str
    split: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt at a unit whose worker ended or vanished.

    ``began`` is None if the worker had not started the unit.
    """

    number: int | None
    worker: str | None
    host: str | None
    began: datetime | None
    at: datetime | None
    why: str


class Inspected(Described, frozen=True):
    """A unit with its attempts.

    ``attempt`` is the number of the last one, 0 if there was none.  ``worker`` and ``host`` have
    the unit now, or have scored it.  ``began`` and ``ended`` are by the server's clock.  ``lost``
    has the last five lost attempts at most.
    """

    kind: str
    attempt: int
    worker: str | None
    host: str | None
    began: datetime | None
    ended: datetime | None
    lost: tuple[LostAttempt, ...]


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record of a unit that cannot be read, with the reason."""

    id: str
    why: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of a candidate, for generators and for rows of frames.

    Attributes
    ----------
    number : int
        Number of the candidate in its search, from 0; below 0 for a candidate of an earlier
        search, which a generator is told before the first ask.
    params : mapping
    state : {"pending", "completed", "failed", "stopped", "left out"}
        Pending: queued or running.  Failed: some of its units have no score.  Stopped: by
        racing, so it has the scores of its first splits only.  Left out: by a filter, with the
        reason in ``error``.
    scores : mapping of str to float
        Means over the splits with a score, NaN if there is none, by metric; ``score`` is the
        name of a single one.
    seconds : float
        Time of its units together.
    extra : str or None
        Values that a scoring function returned beside the score, as text.
    error : str or None
        Type and text of the first error of a failed candidate.
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
    """A unit that a worker has claimed, with the fields of its document.

    ``searches`` are the ids of the searches that waited for it then.
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
    """Claimed jobs, with the random 128-bit ``token`` (hex) that proves the claim."""

    token: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """The identity of a process, so that others on its host can see that it has ended."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A registered worker, with a random ``id``.

    ``refused`` has the reasons for which it skips queues, by queue.
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
    """The needs of work that share a queue (see :class:`Work`)."""

    id: str
    env: Mapping[str, str]
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate as its search asked for it.

    Units have the params of the search that queued them first, which may set the same values by
    other params.  ``text`` has the exact params, None if they are so long that only units have
    them.  ``units`` are the ids of its units, one a split; as stored, the beginnings of their
    keys.  ``shown`` has values that are objects, for people.  ``reason`` is that of a filter.
    ``params`` are the values themselves, empty for a candidate that is read from the store.
    """

    text: str | None
    units: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TaskSignature:
    """The task of a search: others of the same task can use its scores (``warm_start``).

    ``digest`` is the hash of all that candidates share, without params and splits: class of the
    estimator, data, scorer, params of fit and score, versions; or the code of a function.
    ``splits`` has the hash of each split, from which keys of units follow.  ``n_train`` is the
    smallest number of training rows, 0 for a function.
    """

    digest: str
    splits: tuple[str, ...]
    n_train: int


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """One ``fit``: the question, the user, the process and the versions.

    ``ingredients`` are short digests of all that goes into keys, by name, to explain differences.
    ``facts`` say how to make its table (results/table.py).  An iteration of successive
    halving is ``part_of`` the search of the first one.  Its ``more`` columns have one value for
    all its candidates.
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
    signature: TaskSignature | None = None
    ingredients: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    part_of: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    user: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of the protocol in seconds, and the number of workers that a unit may kill.

    A worker renews after ``lease / 3``, and reaps each ``lease / 6``.  ``unstarted`` is the lease
    of claimed units that have not begun: it is short, as no process renews it.
    """

    lease: float = DEFAULT_LEASE
    unstarted: float = 3.0
    max_losses: int = 3


@dataclass(frozen=True, slots=True)
class Reservation:
    """A unit that this worker has claimed, at the time ``at`` of its clock.

    ``work`` is equal for units that share a bundle and options.  ``parts`` are the hashes of the
    parts that scoring needs.
    """

    job: Job
    token: str
    at: float
    work: str
    parts: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Return its token and unit: a worker may claim again what was taken from it."""
        return self.token, self.job.id


class Hooks(Protocol):
    """Calls into a search between its units: it looks what has ended, queues more, or ends early.

    Both are called in the thread that called the executor's ``work``, often.  What they raise
    ends the work: results are handed in, the rest is given back.
    """

    def turn(self) -> bool:
        """Look what has ended, queue what follows from it; return whether anything was queued.

        Called when all that was finished here is in the store: after each lease or hand-in,
        and a few times a second while nothing happens.
        """

    def grace(self) -> float | None:
        """Return None, or, once the search is to end early, for how many seconds units may go on.

        Must cost next to nothing: it is asked between any two units.
        """


class NoHooks:
    """A search whose units are all queued before the work begins."""

    def turn(self) -> bool:
        """Queue nothing."""
        return False

    def grace(self) -> float | None:
        """Go on."""
        return None


NO_HOOKS = NoHooks()
