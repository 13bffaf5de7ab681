"""The calls of one ``Parallel``: packed, joined where they are short, and their ends.

Calls that take milliseconds are joined, as each document costs the database more than such a call:
several are sent as one, and joblib is asked for more of them than it would hand over by itself.
Where one of them raises, those behind it did not run, and are sent again.  Where they end their
process again and again, each is sent alone, so that no other is blamed.
"""

from __future__ import annotations

import pickle
import secrets
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple, Protocol

from optomatic.errors import CallFailed, CallLost, RemoteTraceback
from optomatic.planning import serialization
from optomatic.planning.serialization import (
    LARGE_PICKLE,
    Task,
    call_work,
    join_calls,
    pack_call,
    split_ends,
)
from optomatic.records import Call, Part
from optomatic.store.calls import CallEnd
from optomatic.worker.batching import BatchSizing

#: So many seconds of calls are joined; and a Parallel has at most so many bytes under way where it
#: is asked for more calls than it would hand over by itself.
_JOINED_SECONDS, _MOST_BYTES = 0.2, 64_000_000
#: So many groups of joined calls are under way for each that runs, as joblib's batches are.
_GROUPS = 2


@dataclass(eq=False, slots=True)
class CallFuture:
    """A call that was sent, or could not be, and its outcome."""

    run: Run
    callback: Callable[[CallFuture], Any]
    call: Call | None = None
    data: memoryview | None = field(default=None, repr=False)
    error: BaseException | None = None
    #: How often it was damaged on the way.
    damaged: int = 0
    #: It is joined with no other.
    alone: bool = False
    #: Bytes that were stored for it.
    size: int = 0

    @property
    def tasks(self) -> int:
        """Return how many tasks joblib has put into it."""
        return 0 if self.call is None else int(self.call.unit.params["tasks"])

    @property
    def is_open(self) -> bool:
        """It has come to no end."""
        return self.data is None and self.error is None

    def result(self) -> list[Any]:
        """Return the values of its tasks, or raise the error that one of them raised."""
        if self.error is not None:
            raise self.error
        assert self.data is not None
        return pickle.loads(self.data)  # type: ignore[no-any-return]


class Sender(Protocol):
    """What sends calls; as a context manager it stays ready while one is packed."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def own(self, part: Part, *, of_one_call: bool = False) -> None:
        """Have a part in the store."""

    def owns(self, sha: str) -> bool:
        """Return whether a part is in the store, and stays."""

    def send(self, future: CallFuture) -> None:
        """Queue a call."""

    def withdraw(self, run: Run) -> None:
        """Give up all calls of `run`."""


class Group(NamedTuple):
    """Calls of one run that are sent as one."""

    call: Call
    futures: Sequence[CallFuture]

    @property
    def run(self) -> Run:
        """Return the run that all are of."""
        return self.futures[0].run


class Run:
    """The calls of one ``Parallel``, up to their end or until they are withdrawn.

    Arrays of `large` bytes and more are parts; None: no array is.  `first` is an initializer that
    each process runs before its first call.  `n_jobs` are to run at the same time.  ``more(run)``
    has joblib hand over what the run wants, None if that is as much as the user said.  The other
    parameters are those of :func:`~optomatic.planning.serialization.call_work`.
    """

    def __init__(
        self,
        client: Sender,
        *,
        level: int,
        threads: int | None,
        large: int | None,
        mmap_mode: str | None,
        first: Part | None = None,
        n_jobs: int = 1,
        more: Callable[[Run], None] | None = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.withdrawn = False
        #: How many documents were queued.
        self.queued = 0
        #: How long a task takes; and how long the last group took.
        self.sizing, self.took = BatchSizing(), 0.0
        #: Tasks that were sent and have no end, and the bytes that were stored for them.
        self.open_tasks = self.open_bytes = 0
        self._n_jobs, self._more = n_jobs, more
        self._stored = 0
        self._client, self._large, self._first = client, large, first
        self._arrays: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._work = call_work(level, threads, mmap_mode, None if first is None else first.sha)

    def submit(self, tasks: Sequence[Task], callback: Callable[[CallFuture], Any]) -> CallFuture:
        """Queue a batch.  An error that keeps it from being queued goes to its callback."""
        future = CallFuture(self, callback)
        with self._client:
            try:
                if self._first is not None:
                    self._client.own(self._first)
                self._stored = 0
                future.call = pack_call(tasks, self._work, self._keep, self._large)
                future.size = self._stored + len(future.call.unit.params_text)
                if future.call.own is not None:
                    self._client.own(future.call.own, of_one_call=True)
                    future.size += future.call.own.size
            except Exception as error:  # the user's data, or the store
                future.error = error
            self._client.send(future)
        return future

    def join(
        self, futures: Sequence[CallFuture], pending: int
    ) -> tuple[list[Group], list[CallFuture]]:
        """Join calls that are short; return groups, and calls that wait for more to join.

        That is where so many groups are `pending` that nobody is idle for it.
        """
        groups: list[list[CallFuture]] = []
        group: list[CallFuture] = []
        size = tasks = 0
        idle = max(1, self._n_jobs - pending)
        limit = min(self._tasks_per_group(), ceil(sum(f.tasks for f in futures) / idle))
        for future in futures:
            assert future.call is not None
            if future.alone or future.call.own is not None:
                groups.append([future])
                continue
            text = len(future.call.unit.params_text)
            if group and (tasks + future.tasks > limit or size + text > LARGE_PICKLE):
                groups.append(group)
                group, size, tasks = [], 0, 0
            group.append(future)
            size, tasks = size + text, tasks + future.tasks
        enough = pending + len(groups) >= _GROUPS * self._n_jobs
        if group and not (enough and self._tasks_per_group() > 1):
            groups.append(group)
            group = []
        return [Group(join_calls([f.call for f in fs if f.call]), fs) for fs in groups], group

    def _tasks_per_group(self) -> int:
        seconds = self.sizing.seconds_of("")
        return 1 if seconds is None else max(1, int(_JOINED_SECONDS / seconds))

    def wants_more(self) -> bool:
        """Return whether short tasks are to be handed over in advance, for groups of them."""
        limit = self._tasks_per_group()
        too_few = self.open_tasks < _GROUPS * self._n_jobs * limit
        return limit > 1 and too_few and self.open_bytes < _MOST_BYTES

    def ask_for_more(self) -> None:
        """Have joblib hand over what is wanted."""
        if self._more is not None and self.wants_more():
            self._more(self)

    def withdraw(self) -> None:
        """Give up all calls."""
        self._client.withdraw(self)

    def forget_arrays(self) -> None:
        """Look again at the content of arrays that were stored before."""
        self._arrays.clear()

    def _keep(self, array: Any) -> str:
        """Store a large array and return its hash; an object is looked at once a call."""
        known = self._arrays.get(id(array))
        if known is not None and known[0]() is array and self._client.owns(known[1]):
            return known[1]
        part = serialization.dump(array)
        if not self._client.owns(part.sha):
            self._client.own(part)
            self._stored += part.size
        self._arrays[id(array)] = (weakref.ref(array), part.sha)
        return part.sha


def note_ends(group: Group, end: CallEnd, content: bytes) -> None:
    """Note what calls returned, and what the last of them raised; those behind it did not run."""
    seconds, values = split_ends(content)
    tasks = sum(future.tasks for future in group.futures[: len(values)])
    group.run.took = seconds
    group.run.sizing.measured(seconds / max(1, tasks))
    if end.failure is not None:
        last = len(values) - 1
        group.futures[last].error = error_of(end, values.pop())
    for future, value in zip(group.futures, values, strict=False):
        future.data = value


def error_of(end: CallEnd, data: memoryview | None) -> BaseException:
    """Return the error that a call without a value raises here."""
    failure = end.failure
    if end.state == "cancelled" and failure is None:
        return CallLost(
            "A call of joblib was cancelled by somebody before it had run. Make it again."
        )
    if failure is None:
        why = ", ".join(end.history) or "no reason is known"
        where = ", ".join(dict.fromkeys(end.lost_on)) or "unknown hosts"
        return CallLost(
            f"A call of joblib ended the process that ran it {end.losses} times (on {where}: "
            f"{why}) and is not tried again. It returned nothing. Run its function here to find "
            "out why: a crash in compiled code, os._exit and too little memory look like this."
        )
    try:
        error = pickle.loads(data) if data else None
    except BaseException:  # its class is not here, or cannot be read
        error = None
    if not isinstance(error, BaseException):
        error = CallFailed(
            f"A call of joblib failed on a worker with {failure.type}: {failure.text} The "
            "exception itself could not be brought here; its traceback stands above."
        )
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error
