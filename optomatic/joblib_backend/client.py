"""Calls of joblib in one store, from the process that makes them: sent, awaited, removed.

One thread for each store does all of that, for any number of ``Parallel`` objects at the
same time::

    submit --> outgoing --joined--> pending --its end is read--> callback --> removed

It looks for ends after a twentieth of the time since something happened, so that waiting adds
little to short calls and costs little for long ones.  While it runs it is a worker without
processes, whose heartbeat takes back units that others lost.  Without calls it ends after a while,
and begins again with the next call.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from optomatic import _config
from optomatic.errors import (
    BundleDamaged,
    CallLost,
    NoProgress,
    NoWorkers,
    StoreError,
    StoreUnavailable,
)
from optomatic.joblib_backend.run import CallFuture, Group, Run, error_of, note_ends
from optomatic.planning.serialization import renew_call
from optomatic.records import Call, Part
from optomatic.store.calls import CallEnd, holder_name
from optomatic.store.connection import Store, open_store
from optomatic.worker.heartbeat import Heartbeat, new_record, reap_vanished
from optomatic.worker.missing_workers import start_advice

log = logging.getLogger(__name__)

#: Seconds between two looks for ends, at least and at most, and their part of the time since
#: something happened, or of what calls take.
_LOOK_SHORT, _LOOK_LONG, _LOOK_PART = 0.001, 0.05, 0.05
#: After so many seconds without an end the client asks why.
LONELY_SECONDS = 10.0
#: A worker that was not seen for so many seconds, or for a lease if that is longer, does not
#: count: an idle one says that it lives each half a lease.
_SEEN = 30.0
#: The number of workers is asked for again after so many seconds.
_COUNT_AGAIN = 1.0
#: Seconds to take leave of a store that may be away.
_FAREWELL = 5.0
#: The thread ends after so many seconds without calls.
_IDLE = 30.0
#: A call that is damaged on the way is sent again so many times.
_SENT_AGAIN = 3
_DAMAGE = f"{BundleDamaged.__module__}.{BundleDamaged.__qualname__}"


class Client:
    """Makes calls in one store.  Safe to share among threads, not across a fork.

    As a context manager it keeps its thread alive while a call is packed.

    Parts are shared by content (:mod:`optomatic.store.parts`), so the store is told who needs
    them.  Others give up parts that this process owns once they find it gone, or have not seen it
    for a day.  So it owns nothing while its record is not in the store, and takes another name
    whenever it was silent.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self._clock = store, clock
        self._record = new_record("here", 0)
        self.id = self._record.id
        #: Guards what follows, and wakes the thread.
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None
        self._closing = self._given_up = self._said = False
        self._packing = 0
        self._outgoing: list[CallFuture] = []
        #: Calls that wait for more to join, while groups of them are pending.
        self._held: list[CallFuture] = []
        #: What the last groups took of the runs under way, the least of that.
        self._shortest = 0.0
        self._withdrawn: list[Run] = []
        self._pending: dict[str, Group] = {}
        self._read: list[CallEnd] = []
        self._published: set[str] = set()
        self._happened_at = self._looked_at = clock()
        self._count, self._counted_at = 0, float("-inf")
        #: Set once the thread has registered this process, or has failed to.
        self._began = threading.Event()
        #: The name under which parts are owned now, empty while the process is silent.
        self._name = ""
        #: All names under which something may be owned, and how often one was taken.
        self._names: list[str] = []
        self._number = 0
        #: Part -> the name under which it is owned.
        self._owned: dict[str, str] = {}

    # -- any thread ------------------------------------------------------------------------

    def __enter__(self) -> None:
        with self._news:
            self._packing += 1

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._packing -= 1
            self._happened_at = self._clock()

    def send(self, future: CallFuture) -> None:
        """Queue a call; its callback is called once, in the client's thread."""
        with self._news:
            self._outgoing.append(future)
            future.run.open_tasks += future.tasks
            future.run.open_bytes += future.size
            self._wake()

    def own(self, part: Part, *, of_one_call: bool = False) -> None:
        """Have a part in the store until this process ends; to be called while packing."""
        with self._news:
            self._wake()
        # Others must know that this process lives before it owns anything.
        while not self._began.wait(0.1):
            # A callback that the thread calls as it ends waits for what begins after that end.
            if self._closing or threading.current_thread() is self._ending:
                break
        else:
            if not self._name:
                self._register()
        self._own(part, of_one_call=of_one_call)

    def _own(self, part: Part, *, of_one_call: bool) -> None:
        """Upload a part unless it is there; one `of_one_call` is not.

        Raise StoreUnavailable if the process is silent.
        """
        with self._news:
            name = self._name
            if not name:
                raise StoreUnavailable(
                    "The thread that makes calls of joblib ended while one was packed. The call "
                    "was not queued, and none of its arguments is stored. Make it again."
                )
            if name not in self._names:
                self._names.append(name)
        if of_one_call:
            self.store.parts.put(part, holder=name)
        elif self._owned.get(part.sha) != name:
            if self.store.parts.missing([part.sha], name):
                self.store.parts.put(part, holder=name)
            self._owned[part.sha] = name

    def owns(self, sha: str) -> bool:
        """Return whether a part is in the store, and stays."""
        return bool(self._name) and self._owned.get(sha) == self._name

    def withdraw(self, run: Run) -> None:
        """Give up all calls of `run`: none of their callbacks is called from now on.

        Queued calls are removed soon; running ones are stopped by their workers within a second.
        """
        run.withdrawn = True
        with self._news:
            self._outgoing = [future for future in self._outgoing if future.run is not run]
            self._held = [future for future in self._held if future.run is not run]
            self._pending = {i: g for i, g in self._pending.items() if g.run is not run}
            self._withdrawn.append(run)
            self._wake()

    def workers(self) -> int:
        """Return how many processes the workers have that are alive now.

        Where there are none, wait for some; after 10 s warn and return 0.
        """
        deadline = self._clock() + LONELY_SECONDS
        while not (count := self._workers_now()) and self._clock() <= deadline:
            time.sleep(0.05)
        if not count:
            self._warn_lonely()
        return count

    def _workers_now(self) -> int:
        if not self._count or self._clock() > self._counted_at + _COUNT_AGAIN:
            reap_vanished(self.store)
            self._count = self.store.workers.capacity(max(_SEEN, self.store.timing.lease))
            self._counted_at = self._clock()
        return self._count

    def _warn_lonely(self) -> None:
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
            if self._names:
                self.store.parts.release(self._names)
                self.store.workers.leave(self.id)
        except StoreError as error:
            log.warning("calls of joblib could not be withdrawn: %s", error)
        self.store.close()

    # -- its own thread: life --------------------------------------------------------------

    def _wake(self) -> None:
        """Have the thread look around.  To be called with the lock held."""
        if self._thread is None and not self._closing:
            self._happened_at = self._looked_at = self._clock()
            self._thread = threading.Thread(
                target=self._run, args=(self._ending,), name="optomatic-client", daemon=True
            )
            self._thread.start()
        self._news.notify_all()

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # it signs off under the id under which this one registers
        heartbeat = Heartbeat(self.store, self.id)
        try:
            self._begin()
            heartbeat.start()
            while self._wait():
                self._turn()
        except Exception as error:  # nobody else would tell those who wait
            log.exception("the thread that makes calls of joblib ended")
            with self._news:
                self._end_thread()  # what is sent from now on gets another one
            self._give_up(error)
        finally:
            heartbeat.stop()
            self._leave()

    def _begin(self) -> None:
        try:
            try:
                self._register()
                self.store.calls.sweep()
            finally:  # before callbacks, which may ask for it
                self._began.set()
        except StoreError as error:
            self._give_up(error)

    def _register(self) -> None:
        """Let others know that this process lives, and take another name."""
        self.store.workers.register(self._record)
        with self._news:
            self._number += 1
            self._name = holder_name(self.id, self._number)

    def _end_thread(self) -> None:
        """Note that this thread ends, and is silent.  To be called with the lock held."""
        self._began.clear()
        self._name = ""
        self._ending, self._thread = self._thread, None

    def _leave(self) -> None:
        try:
            self._remove_given_up()
            if not self._names:  # else others have to find out when this process is gone
                self.store.workers.leave(self.id)
        except StoreError as error:
            log.info("client %s could not sign off: %s", self.id, error)

    def _wait(self) -> bool:
        """Wait for something to do; return False if the thread is to end."""
        with self._news:
            waits = self._pending or self._read
            if not (self._outgoing or self._withdrawn or self._closing):
                since = max(self._clock() - self._happened_at, self._shortest)
                look = min(_LOOK_LONG, max(_LOOK_SHORT, _LOOK_PART * since))
                self._news.wait(look if waits else _IDLE + 1.0)
            idle = not (self._outgoing or self._withdrawn or waits or self._packing)
            if self._closing or (idle and self._clock() > self._happened_at + _IDLE):
                self._end_thread()
                return False
            return True

    # -- its own thread: calls -------------------------------------------------------------

    def _turn(self) -> None:
        """Do all that there is to do now, urgent things first."""
        with self._news:
            outgoing, self._outgoing = self._outgoing, []
            withdrawn, self._withdrawn = self._withdrawn, []
            failed = [future for future in outgoing if future.error is not None]
            groups = self._join([f for f in outgoing if f.call and f.error is None])
        self._deliver(failed)  # first, as what follows may fail
        try:
            self._remove_given_up()
            self._submit(groups)
            if self._read:
                parts = [sha for end in self._read for sha in (end.sha, end.own) if sha]
                self.store.calls.remove([end.id for end in self._read], parts)
                self._read = []
            for run in withdrawn:
                self.store.calls.withdraw(self.id, run.id)
            if not self._pending:
                return
            if ends := self.store.calls.finished(self.id):
                self._happened_at, self._said = self._clock(), False
                self._take(ends)
            elif self._clock() >= max(self._happened_at, self._looked_at) + LONELY_SECONDS:
                self._looked_at = self._clock()
                self._ask_why()
        except StoreError as error:
            self._give_up(error)

    def _join(self, futures: Iterable[CallFuture]) -> list[Group]:
        """Join calls as far as they are to be sent now.  To be called with the lock held."""
        pending = Counter(group.run for group in self._pending.values())
        by_run: dict[Run, list[CallFuture]] = {}
        for future in (*self._held, *futures):
            by_run.setdefault(future.run, []).append(future)
        self._held, groups = [], []
        self._shortest = min((run.took for run in {*pending, *by_run}), default=0.0)
        for run, own in by_run.items():
            some, rest = run.join(own, pending[run])
            groups += some
            self._held += rest
        self._pending.update((group.call.unit.id, group) for group in groups)
        return groups

    def _submit(self, groups: Iterable[Group]) -> None:
        by_run: dict[Run, list[Call]] = {}
        for group in groups:
            by_run.setdefault(group.run, []).append(group.call)
        for run, calls in by_run.items():
            self._publish(calls[0])
            self.store.calls.submit(calls, self.id, run.id, run.queued)
            run.queued += len(calls)
            self._happened_at = self._clock()

    def _publish(self, call: Call) -> None:
        work = call.unit.work
        if work.queue not in self._published:
            self.store.workers.publish(work)
            self._published.add(work.queue)

    def _take(self, ends: Sequence[CallEnd]) -> None:
        """Take the ends of calls; calls that did not come to theirs are sent again."""
        self._read.extend(ends)
        with self._news:
            known = [(self._pending.pop(end.id, None), end) for end in ends]
        ended = [future for group, end in known if group for future in self._finish(group, end)]
        with self._news:
            self._outgoing += [f for f in ended if f.is_open and not f.run.withdrawn]
        over = [future for future in ended if not future.is_open]
        self._deliver(over)
        for run in {future.run for future in over}:
            try:
                run.ask_for_more()
            except Exception:  # of joblib, whose call may just have ended
                log.exception("joblib could not be asked for more calls")

    def _finish(self, group: Group, end: CallEnd) -> Sequence[CallFuture]:
        """Note the ends of calls, and return all; those that are open are to be sent again."""
        futures = group.futures
        try:
            content = self._content(end)
            if content is not None:
                note_ends(group, end, content)
        except BundleDamaged as error:
            for future in futures:
                self._damaged(future, error)
            again = sum(future.is_open for future in futures)
            log.warning("%d calls of joblib were damaged on the way, and are sent again", again)
        except StoreError as error:
            for future in futures:
                future.error = error
        else:
            for future in futures if content is None else ():
                if len(futures) > 1 and end.state == "dead":
                    future.alone = True
                else:
                    future.error = error_of(end, None)
        return futures

    def _content(self, end: CallEnd) -> bytes | None:
        """Return what came of calls; raise BundleDamaged if that, or what was sent, is damaged."""
        failure = end.failure
        if end.state == "invalid":
            raise BundleDamaged("its record could not be read.")
        if failure is not None and (failure.stage, failure.type) == ("load", _DAMAGE):
            raise BundleDamaged(failure.text)
        return end.data if end.sha is None else self.store.parts.get(end.sha)[1]

    def _damaged(self, future: CallFuture, error: BundleDamaged) -> None:
        """Give a call that was damaged another key, unless it was too often."""
        future.damaged += 1
        if future.damaged <= _SENT_AGAIN:
            self._renew(future)
            return
        future.error = BundleDamaged(
            f"A call of joblib was damaged on the way {future.damaged} times in a row, so it "
            f"is not sent again. It returned nothing: {error} Look for bad memory or a bad "
            "disk in this machine, the database's and the workers', and let all of them have "
            "the same version of optomatic."
        )

    def _renew(self, future: CallFuture) -> None:
        """Give a damaged call another key."""
        assert future.call is not None
        future.call = renew_call(future.call)
        try:
            if future.call.own is not None:
                self._own(future.call.own, of_one_call=True)
        except StoreError as error:
            future.error = error

    def _deliver(self, those: Iterable[CallFuture]) -> None:
        for future in those:
            with self._news:
                future.run.open_tasks -= future.tasks
                future.run.open_bytes -= future.size
            if future.run.withdrawn:
                continue
            try:
                future.callback(future)
            except Exception:  # joblib's; the others must not wait for ever
                log.exception("joblib's callback raised")

    def _ask_why(self) -> None:
        """Find out why nothing happens: is no worker there, did somebody remove the calls?"""
        with self._news:
            ids = list(self._pending)
        missed = self.store.calls.missed(self.id, ids)
        with self._news:
            n = sum(len(self._pending[i].futures) for i in missed.gone if i in self._pending)
        gone = CallLost(
            f"{n} calls of joblib are not in the database any more, though nothing "
            "had come of them: somebody removed them. Whether they ran is not known. Make them "
            "again."
        )
        self._fail(missed.gone, gone)
        self._take(missed.broken)
        self._published.clear()  # what it says of them may have been lost, too
        for group in list(self._pending.values()):
            self._publish(group.call)
        if self._said or (not missed.foreign and self._workers_now()):
            return
        self._said = True
        try:
            if not missed.foreign:
                self._warn_lonely()
                return
            text = (
                f"{len(missed.foreign)} calls of joblib wait in the form of another version of "
                "optomatic, which this one does not know. They were left as they are. Wait for "
                "workers of that version, or use another database."
            )
            warnings.warn(text, NoProgress, stacklevel=2)
        except (NoProgress, NoWorkers) as error:  # made errors, but there is no caller here
            log.warning("%s", error)

    def _give_up(self, error: Exception) -> None:
        """Fail all calls that wait, as the store does not answer."""
        self._read = []
        self._given_up = True
        with self._news:
            unsent = [*self._held, *self._outgoing]
            self._pending.update((f.call.unit.id, Group(f.call, [f])) for f in unsent if f.call)
            self._held = []
            self._outgoing = [future for future in self._outgoing if not future.call]
            ids = list(self._pending)
        self._fail(ids, error)

    def _remove_given_up(self) -> None:
        """Remove calls that nobody waits for; no call that is waited for is stored now."""
        if self._given_up:
            self.store.calls.abandon([self.id])
            self._given_up = False

    def _fail(self, ids: Sequence[str], error: Exception) -> None:
        with self._news:
            groups = [self._pending.pop(i) for i in ids if i in self._pending]
        lost = [future for group in groups for future in group.futures]
        for future in lost:
            future.error = future.error or error
        self._deliver(lost)


_lock = threading.Lock()
_clients: dict[str | None, Client] = {}


def client_at(db: str | None) -> Client:
    """Return the client of this process for the store at `db`; it stays for the next one."""
    key = db if db is not None else _config.setting(_config.DB)
    with _lock:
        if key not in _clients:
            _clients[key] = Client(open_store(db, app="optomatic joblib"))
        return _clients[key]


@atexit.register
def close_clients() -> None:
    """Close all clients: their calls are withdrawn, their connections closed."""
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
    for client in clients:
        client.close()


def _forget_in_fork() -> None:
    """Start anew in a fork: it has no threads, and must not use connections of its parent."""
    global _lock
    _lock = threading.Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_forget_in_fork)
