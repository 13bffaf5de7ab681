"""Parts of arguments that calls of this process use: in the store until it ends.

They are shared by content with whatever else uses them (:mod:`optomatic.store.parts`), so the
store is told who needs them.  Others give up what this process holds once they find it gone, or
have not seen it for a day; so it holds nothing while nobody knows that it lives, and under a new
name whenever it was silent.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from optomatic import _config
from optomatic.errors import (
    BundleDamaged,
    CallFailed,
    CallLost,
    NoProgress,
    NoWorkers,
    RemoteTraceback,
    StoreError,
    StoreUnavailable,
)
from optomatic.keys.environment import required_versions
from optomatic.planning.call_packing import renew_call
from optomatic.records import Call, Part, WorkerRecord
from optomatic.store.calls import CallEnd, holder_name
from optomatic.store.connection import Store, open_store
from optomatic.store.parts import Bundles
from optomatic.store.workers import this_process
from optomatic.worker.availability import start_advice
from optomatic.worker.heartbeat import Heartbeat, reap_vanished
from optomatic.worker.host import timing_here


class HeldParts:
    """What the process `client` holds.  Safe to share among threads."""

    def __init__(self, bundles: Bundles, client: str) -> None:
        self._bundles = bundles
        self._client = client
        self._lock = threading.Lock()
        self._number = 0
        self._holder = ""
        #: The names under which something may be held.
        self._used: list[str] = []
        self._held: dict[str, str] = {}  # part -> under which name

    def begin(self) -> None:
        """Take another name: the process is known to live."""
        with self._lock:
            self._number += 1
            self._holder = holder_name(self._client, self._number)

    def end(self) -> None:
        """Take note that the process is silent from now on: what it holds, it may lose."""
        with self._lock:
            self._holder = ""

    def hold(self, part: Part, *, own: bool = False) -> None:
        """Have a part in the store until the process ends; upload it unless it is there.

        Parameters
        ----------
        part : Part
        own : bool
            It is of one call only, so it is neither there yet nor asked for again.

        Raises
        ------
        StoreError
            Also if nobody knows that this process lives.
        """
        holder = self._in_use()
        if own:
            self._bundles.put(part, holder=holder)
        elif not self.holds(part.sha):
            if self._bundles.missing([part.sha], holder):
                self._bundles.put(part, holder=holder)
            self._held[part.sha] = holder

    def _in_use(self) -> str:
        with self._lock:
            if not self._holder:
                raise StoreUnavailable(
                    "What makes calls of joblib in this process ended while one was packed. It "
                    "was not queued, and none of its arguments is stored. Make it again."
                )
            if self._holder not in self._used:
                self._used.append(self._holder)
            return self._holder

    def holds(self, sha: str) -> bool:
        """Tell whether a part is in the store, and stays."""
        return bool(self._holder) and self._held.get(sha) == self._holder

    def any(self) -> bool:
        """Tell whether anything may be held."""
        return bool(self._used)

    def let_go(self) -> None:
        """Hold nothing any more; what nobody else needs is removed."""
        self._bundles.let_go(self._used)


# Calls of joblib, from the side of the process that makes them: sent, awaited, removed.
#
# One thread for each store does all of that, for any number of ``Parallel`` objects at the
# same time::
#
#     submit --> outgoing --inserted--> pending --its end is read--> callback --> removed
#
# It looks for ends as often as they are worth it: a twentieth of the time that has passed since
# something happened, so that waiting adds little to short calls and costs little for long
# ones.  While it runs it is a worker without processes, whose heart takes back what others
# lost; when there is nothing to do for a while it ends, and begins again with the next call.


log = logging.getLogger(__name__)


#: Seconds between two looks for ends, at least and at most, and what part of the time since
#: something happened they are.
_LOOK_SHORT, _LOOK_LONG, _LOOK_PART = 0.001, 0.05, 0.05
#: After so many seconds in which nothing happened it is asked why.
LONELY_SECONDS = 10.0
#: A worker that was not seen for so many seconds, or for a lease if that is longer, does not
#: count: one that is idle says that it lives each half a lease.
_SEEN = 30.0
#: The number of workers is asked for again after so many seconds.
_COUNT_AGAIN = 1.0
#: Seconds to take leave of a store that may be away.
_FAREWELL = 5.0
#: The thread ends after so many seconds without calls.
_IDLE = 30.0
#: A call that is damaged on the way is sent again so many times.
_SENT_AGAIN = 3


@dataclass(eq=False, slots=True)
class Sent:
    """A call that was sent, or could not be, and what came of it."""

    run: str
    callback: Callable[[Sent], Any]
    call: Call | None = None
    data: bytes | None = field(default=None, repr=False)
    error: BaseException | None = None
    #: How often it was damaged on the way.
    damaged: int = 0

    def result(self) -> list[Any]:
        """Return the values of its tasks, or raise what one of them raised."""
        if self.error is not None:
            raise self.error
        assert self.data is not None
        return pickle.loads(self.data)  # type: ignore[no-any-return]


class Caller:
    """Makes calls in one store.  Safe to share among threads, not across a fork."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.id = secrets.token_hex(8)
        self._clock = clock
        self._timing = timing_here()
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None
        self._closing = False
        self._outgoing: list[Sent] = []
        self._failed: list[Sent] = []
        self._withdrawn: list[str] = []
        self._pending: dict[str, Sent] = {}
        self._read: list[CallEnd] = []
        self._sequence: dict[str, int] = {}
        self._happened_at = self._looked_at = clock()
        self._said = False
        self._given_up = False
        self._count = 0
        self._counted_at = float("-inf")
        self._published: set[str] = set()
        self._packing = 0
        #: Set while others have been told that this process lives, if that went well.
        self._known = threading.Event()
        self._unknown = True
        self._parts = HeldParts(store.bundles, self.id)

    # -- any thread ------------------------------------------------------------------------

    def send(self, sent: Sent) -> None:
        """Queue a call; its callback is called once, in the caller's own thread."""
        with self._news:
            self._outgoing.append(sent)
            self._wake()

    @contextmanager
    def packing(self) -> Iterator[None]:
        """Have the thread go on until what is packed is sent."""
        with self._news:
            self._packing += 1
        try:
            yield
        finally:
            with self._news:
                self._packing -= 1
                self._happened_at = self._clock()

    def hold(self, part: Part, *, own: bool = False) -> None:
        """Have a part in the store until this process ends; to be called while packing.

        Parameters
        ----------
        own : bool
            It is of one call only.
        """
        self._be_known()
        self._parts.hold(part, own=own)

    def holds(self, sha: str) -> bool:
        """Tell whether a part is in the store, and stays; to be called while packing."""
        return self._parts.holds(sha)

    def _be_known(self) -> None:
        """Wait until others know that this process lives, and do not take it for gone."""
        with self._news:
            self._wake()
        while not self._known.wait(0.1):
            # A callback that the thread calls as it ends waits for what begins after that end.
            if self._closing or threading.current_thread() is self._ending:
                return
        if self._unknown:
            self._register()

    def fail(self, sent: Sent) -> None:
        """Have the callback called of a call that cannot be sent, as `sent.error` says."""
        with self._news:
            self._failed.append(sent)
            self._wake()

    def withdraw(self, run: str) -> None:
        """Give up all calls of `run`: no callback of theirs is called from now on.

        What is queued is removed soon; what runs is stopped by its worker within a second.
        """
        with self._news:
            self._outgoing = [sent for sent in self._outgoing if sent.run != run]
            self._failed = [sent for sent in self._failed if sent.run != run]
            for call_id in [i for i, sent in self._pending.items() if sent.run == run]:
                del self._pending[call_id]
            self._withdrawn.append(run)
            self._wake()

    def workers(self) -> int:
        """Return how many processes the workers have that are alive now.

        Where there are none, wait for some; say so after 10 s, and return 0.
        """
        deadline = self._clock() + LONELY_SECONDS
        while True:
            count = self._workers_now()
            if count or self._clock() > deadline:
                break
            time.sleep(0.05)
        if not count:
            self._say_lonely()
        return count

    def _workers_now(self) -> int:
        if not self._count or self._clock() > self._counted_at + _COUNT_AGAIN:
            reap_vanished(self.store)
            self._count = self.store.workers.capacity(max(_SEEN, self._timing.lease))
            self._counted_at = self._clock()
        return self._count

    def _say_lonely(self) -> None:
        warnings.warn(
            f"The calls of joblib wait for standalone workers, and none has been seen for "
            f"{LONELY_SECONDS:.0f} s. They stay queued. Start one "
            f"{start_advice(self.store.shown_uri).rstrip()}",
            NoWorkers,
            stacklevel=4,
        )

    def close(self) -> None:
        """Give up what is pending, and end."""
        with self._news:
            self._closing = True
            thread = self._thread or self._ending
            self._news.notify_all()
        if thread is not None:
            thread.join(5.0)
        self.store.hurry(_FAREWELL)
        try:
            waits = self._pending or self._outgoing or self._withdrawn or self._read
            if waits or self._given_up:
                self.store.calls.abandon([self.id])
            if self._parts.any():
                self._parts.let_go()
                self.store.workers.leave(self.id)
        except StoreError as error:
            log.warning("calls of joblib could not be withdrawn: %s", error)
        self.store.close()

    # -- its own thread --------------------------------------------------------------------

    def _wake(self) -> None:
        """Have the thread look around.  To be called with the lock held."""
        if self._thread is None and not self._closing:
            self._happened_at = self._looked_at = self._clock()
            before = (self._ending,)
            self._thread = threading.Thread(
                target=self._run, args=before, name="optomatic-caller", daemon=True
            )
            self._thread.start()
        self._news.notify_all()

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # it signs off under the id under which this one registers
        heart = Heartbeat(self.store, self.id, self._timing)
        try:
            self._begin(heart)
            while self._wait():
                self._turn()
        except Exception as error:  # nobody else would tell those who wait
            log.exception("the thread that makes calls of joblib ended")
            with self._news:
                self._end_thread()  # what is sent from now on gets another one
            self._give_up(error)
        finally:
            heart.stop()
            self._leave()

    def _begin(self, heart: Heartbeat) -> None:
        try:
            try:
                self._register()
                self.store.calls.sweep()
            finally:  # before callbacks, which may ask for it
                self._known.set()
        except StoreError as error:
            self._give_up(error)
        heart.start()

    def _register(self) -> None:
        """Let others know that this process lives."""
        self._unknown = True
        record = WorkerRecord(self.id, "here", this_process(), 0, required_versions({}))
        self.store.workers.register(record)
        self._parts.begin()
        self._unknown = False

    def _end_thread(self) -> None:
        """Note that this thread ends.  To be called with the lock held."""
        self._known.clear()
        self._parts.end()
        self._ending, self._thread = self._thread, None

    def _leave(self) -> None:
        try:
            self._remove_given_up()
            if not self._parts.any():  # else others have to find out when this process is gone
                self.store.workers.leave(self.id)
        except StoreError as error:
            log.info("caller %s could not sign off: %s", self.id, error)

    def _wait(self) -> bool:
        """Wait for something to do; False if the thread is to end."""
        with self._news:
            if not (self._news_there() or self._closing):
                self._news.wait(self._pause())
            idle = not (self._news_there() or self._pending or self._read or self._packing)
            if self._closing or (idle and self._clock() > self._happened_at + _IDLE):
                self._end_thread()
                return False
            return True

    def _news_there(self) -> bool:
        return bool(self._outgoing or self._failed or self._withdrawn)

    def _pause(self) -> float:
        if not (self._pending or self._read):
            return _IDLE + 1.0
        waited = self._clock() - self._happened_at
        return min(_LOOK_LONG, max(_LOOK_SHORT, _LOOK_PART * waited))

    def _turn(self) -> None:
        """Do all that there is to do now: what others wait for first."""
        with self._news:
            outgoing, self._outgoing = self._outgoing, []
            failed, self._failed = self._failed, []
            withdrawn, self._withdrawn = self._withdrawn, []
            self._pending.update((sent.call.unit.id, sent) for sent in outgoing if sent.call)
        self._deliver(failed)  # first, as what follows may fail
        try:
            self._remove_given_up()
            self._submit(outgoing)
            self._remove_read()
            for run in withdrawn:
                self.store.calls.withdraw(self.id, run)
                self._sequence.pop(run, None)
            if self._pending:
                self._look()
        except StoreError as error:
            self._give_up(error)

    def _submit(self, outgoing: Sequence[Sent]) -> None:
        by_run: dict[str, list[Call]] = {}
        for sent in outgoing:
            if sent.call is not None:
                by_run.setdefault(sent.run, []).append(sent.call)
        for run, calls in by_run.items():
            self._publish(calls[0])
            first = self._sequence.get(run, 0)
            self.store.calls.submit(calls, self.id, run, first)
            self._sequence[run] = first + len(calls)
            self._happened_at = self._clock()

    def _publish(self, call: Call) -> None:
        work = call.unit.work
        if work.queue not in self._published:
            self.store.workers.publish(work)
            self._published.add(work.queue)

    def _look(self) -> None:
        ends = self.store.calls.finished(self.id)
        if ends:
            self._happened_at, self._said = self._clock(), False
            self._take(ends)
        else:
            self._wonder()

    def _take(self, ends: Sequence[CallEnd]) -> None:
        """Take the ends of calls; what was damaged on the way is sent again."""
        self._read.extend(ends)
        with self._news:
            known = [(self._pending.pop(end.id, None), end) for end in ends]
        over: list[Sent] = []
        damaged: list[Sent] = []
        for sent, end in known:
            if sent is not None:
                (over if self._note_end(sent, end) else damaged).append(sent)
        self._send_again(damaged)
        self._deliver(over)

    def _note_end(self, sent: Sent, end: CallEnd) -> bool:
        """Note what came of a call; False if it was damaged on the way, and is to be sent again."""
        try:
            if end.state == "completed":
                sent.data = self._content(end)
            else:
                sent.error = _error_of(end, self._content(end))
        except BundleDamaged as error:
            sent.damaged += 1
            if sent.damaged <= _SENT_AGAIN:
                return False
            sent.error = BundleDamaged(_DAMAGED.format(number=sent.damaged, what=error))
        except StoreError as error:
            sent.error = error
        return True

    def _content(self, end: CallEnd) -> bytes | None:
        """Return the pickle of what a call returned or raised, if there is any.

        Raises
        ------
        BundleDamaged
            If that, or what its worker got of the call, is not what was sent.
        """
        if end.state == "invalid":
            raise BundleDamaged("its record could not be read.")
        failure = end.failure
        if failure is not None and (failure.stage, failure.type) == ("load", _DAMAGE):
            raise BundleDamaged(failure.text)
        return end.data if end.sha is None else self.store.bundles.get(end.sha)[1]

    def _send_again(self, damaged: Sequence[Sent]) -> None:
        """Queue calls under other keys."""
        if not damaged:
            return
        log.warning("%d calls of joblib were damaged on the way, and are sent again", len(damaged))
        for sent in damaged:
            assert sent.call is not None
            sent.call = renew_call(sent.call)
            try:
                if sent.call.own is not None:
                    self._parts.hold(sent.call.own, own=True)
            except StoreError as error:
                sent.error = error
        with self._news:
            wanted = [sent for sent in damaged if sent.run not in self._withdrawn]
            self._outgoing += [sent for sent in wanted if sent.error is None]
            self._failed += [sent for sent in wanted if sent.error is not None]

    def _remove_read(self) -> None:
        if self._read:
            parts = [sha for end in self._read for sha in (end.sha, end.own) if sha]
            self.store.calls.remove([end.id for end in self._read], parts)
            self._read = []

    def _deliver(self, those: Iterable[Sent]) -> None:
        for sent in those:
            try:
                sent.callback(sent)
            except Exception:  # joblib's; the others must not wait for ever
                log.exception("joblib's callback raised")

    def _wonder(self) -> None:
        """Ask why nothing happens: is nobody there, did somebody remove the calls?"""
        now = self._clock()
        if now < max(self._happened_at, self._looked_at) + LONELY_SECONDS:
            return
        self._looked_at = now
        with self._news:
            ids = list(self._pending)
        missed = self.store.calls.missed(self.id, ids)
        self._lose(missed.gone, CallLost(_REMOVED.format(number=len(missed.gone))))
        self._take(missed.broken)
        self._published.clear()  # what it says of them may have been lost, too
        for sent in list(self._pending.values()):
            if sent.call is not None:
                self._publish(sent.call)
        if self._said or (not missed.foreign and self._workers_now()):
            return
        self._said = True
        try:
            if missed.foreign:
                warnings.warn(_FOREIGN.format(len(missed.foreign)), NoProgress, stacklevel=2)
            else:
                self._say_lonely()
        except (NoProgress, NoWorkers) as error:  # made errors, but there is no caller here
            log.warning("%s", error)

    def _give_up(self, error: Exception) -> None:
        """Nothing can be had from the store: tell everyone who waits."""
        self._read = []
        self._given_up = True
        with self._news:
            self._pending.update((s.call.unit.id, s) for s in self._outgoing if s.call)
            self._outgoing = []
            ids = list(self._pending)
        self._lose(ids, error)

    def _remove_given_up(self) -> None:
        """Remove what workers would run for nobody.  Nothing that is waited for is stored now."""
        if self._given_up:
            self.store.calls.abandon([self.id])
            self._given_up = False

    def _lose(self, ids: Sequence[str], error: Exception) -> None:
        with self._news:
            lost = [self._pending.pop(i) for i in ids if i in self._pending]
        for sent in lost:
            sent.error = error
        self._deliver(lost)


_DAMAGE = f"{BundleDamaged.__module__}.{BundleDamaged.__qualname__}"
_DAMAGED = (
    "A call of joblib was damaged on the way {number} times in a row, so it is not sent again. It "
    "returned nothing: {what} Look for bad memory or a bad disk in this machine, the database's "
    "and the workers', and let all of them have the same version of optomatic."
)
_FOREIGN = (
    "{} calls of joblib wait in the form of another version of optomatic, which this one does not "
    "know. They were left as they are. Wait for workers of that version, or use another database."
)
_REMOVED = (
    "{number} calls of joblib are not in the database any more, though nothing had come of them: "
    "somebody removed them. What they did, if they ran, cannot be known. Make them again."
)


def _error_of(end: CallEnd, data: bytes | None) -> BaseException:
    """Return what a call that came to nothing raises here."""
    if end.failure is None:
        return CallLost(_why_lost(end))
    failure = end.failure
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


def _why_lost(end: CallEnd) -> str:
    if end.state == "cancelled":
        return "A call of joblib was cancelled by somebody before it had run. Make it again."
    why = ", ".join(end.history) or "no reason is known"
    where = ", ".join(dict.fromkeys(end.lost_on)) or "unknown hosts"
    return (
        f"A call of joblib ended the process that ran it {end.losses} times (on {where}: {why}) "
        "and is not tried again. It returned nothing. Run its function here to find out why: a "
        "crash in compiled code, os._exit and too little memory look like this."
    )


_lock = threading.Lock()
_callers: dict[str | None, Caller] = {}


def caller_at(db: str | None) -> Caller:
    """Return the caller of this process for the store at `db`; it stays for the next one."""
    key = db if db is not None else _config.setting(_config.DB)
    with _lock:
        if key not in _callers:
            _callers[key] = Caller(open_store(db, timing=timing_here(), app="optomatic joblib"))
        return _callers[key]


@atexit.register
def close_callers() -> None:
    """Close all callers: their calls are withdrawn, their connections closed."""
    with _lock:
        callers = list(_callers.values())
        _callers.clear()
    for caller in callers:
        caller.close()


def _forget_in_fork() -> None:
    """A fork has none of its parent's threads, and must not use its connections."""
    global _lock
    _lock = threading.Lock()
    _callers.clear()


os.register_at_fork(after_in_child=_forget_in_fork)
