"""The units that a worker has reserved, as one state machine, and its debts to the store.

::

    claim          start          begin          complete, fail, crash       flush
    -----> reserved ----> started -----> running ----------------------> owed -----> acknowledged
              |              |              |                             ^
              +--------------+--------------+---------- release ----------+

A unit is in :attr:`Reservations.units` from its claim until it is owed, and then in the outbox
until the store has acknowledged it.  Each write carries the token of the claim, so a write of a
worker that lost the unit changes nothing.

- reserved: claimed under a short lease that nobody renews.  What waits for too long is released,
  and what another worker has taken by the time of the START is dropped.
- started: renewed by the heartbeat, and sent to a child (``Child.sent``).
- running: the first of those, once the child has said that it begins (``Child.running``).
- owed: a result, a crash or a release.  It stays, renewed, for as long as the store is away, and is
  written in the order in which it came.  Each write may be repeated.  While children have work,
  results are handed in by another thread, so that nobody waits for the store.
- revoked is no state but a mark: other workers have the unit, or nobody wants it.  Its child is
  killed after a moment; until then its result is still welcome.
"""

from __future__ import annotations

import json
import logging
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Thread

from optomatic.errors import StoreError
from optomatic.planning import params
from optomatic.records import Failure, Reservation, Result, Returned
from optomatic.store.connection import Store
from optomatic.store.searches import search_of
from optomatic.store.workers import this_process
from optomatic.worker.heartbeat import Heartbeat
from optomatic.worker.pool import Child
from optomatic.worker.protocol import KINDS

log = logging.getLogger(__name__)


#: Results are handed in when there are so many, or when the oldest is so many seconds old, or some
#: times as old as handing in takes, up to so many seconds.
MANY, OLD, TIMES, OLDEST = 128, 0.05, 20, 0.5
#: A revoked unit may go on for so many seconds: most are over by then, and a new child takes
#: longer to start.
_MERCY = 0.25
#: A unit that waits for more than this part of its short lease is given back.
_STALE = 0.7
#: Stands for calls of joblib where searches are counted: these have no search.
CALLS = "calls of joblib"


class Reservations:
    """All units of one worker, from the claim to the store's acknowledgement.

    Used by the worker's thread; only :meth:`revoke` may be called by others.

    Attributes
    ----------
    units : dict of tuple to Reservation
        All that is reserved, started or running, by token and unit id.  A worker that lost a unit
        may claim it again while its child still runs it under the old token.
    waiting : deque of Reservation
        Those that are not started.
    freed : bool
        A unit has left since the last claim, so that more may be claimed.
    may_be_over : bool
        All work may be over: a claim found nothing, or the last unit left.
    scored, failed, crashed : int
        Units that came to a result, those of them with failures, and units that ended their child.
        A unit that a child refuses is none of these.
    by_search : Counter of str
        Units that came to a result, by the id of the search that waited for them, or `CALLS`.
    """

    def __init__(self, store: Store, heartbeat: Heartbeat) -> None:
        self._store, self._heartbeat, self.worker = store, heartbeat, heartbeat.worker
        self.units: dict[tuple[str, str], Reservation] = {}
        self.waiting: deque[Reservation] = deque()
        self._results: dict[str, dict[str, Result | Returned]] = {}
        #: Those that another thread hands in.
        self._behind: dict[str, dict[str, Result | Returned]] = {}
        self._hand_in_over: Future[None] | None = None
        self._oldest = self._took = 0.0
        self._urgent = False
        self._owed: deque[Callable[[], object]] = deque()
        self._revoked: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
        self._kill_at: dict[tuple[str, str], float] = {}
        self._arrived: list[str] = []
        self.freed = self.may_be_over = False
        self.scored = self.failed = self.crashed = 0
        self.by_search: Counter[str] = Counter()

    def claim(
        self,
        count: int,
        queues: Sequence[str] | None,
        search: str | Sequence[str] | None,
        alone: bool,
        most: int | None = None,
    ) -> int:
        """Reserve up to `count` units as :meth:`Claims.claim` does; return how many came."""
        now = time.monotonic()  # before the call, in which the short lease begins
        lease = self._store.claims.claim(
            self.worker, count, queues=queues, search=search, alone=alone, most=most
        )
        # A child may still run a unit under an old token: that was lost, which no beat tells.
        came = {job.id for job in lease.jobs}
        for token, unit_id in [key for key in self.units if key[1] in came]:
            self._kill_at[token, unit_id] = now
            self._heartbeat.drop(token, [unit_id])
        work, of = "", None
        parts: tuple[str, ...] = ()
        for job in lease.jobs:
            if (job.spec, job.options) != of:
                of = job.spec, job.options
                work = json.dumps([dict(job.spec), dict(job.options)], sort_keys=True)
                parts = tuple(sorted(sha for sha in job.spec.values() if sha is not None))
            own = parts
            if '"opaque"' in job.params_text:
                own = tuple(sorted({*parts, *params.parts_of(job.params_text)}))
            one = Reservation(job, lease.token, now, work, own)
            self.units[one.key] = one
            self.waiting.append(one)
        return len(lease.jobs)

    def start(self, chunk: Sequence[Reservation]) -> set[tuple[str, str]]:
        """START `chunk`, all under one token; return the keys that are ours from now on."""
        token, ids = chunk[0].token, [one.job.id for one in chunk]
        try:
            ours = self._store.claims.start(token, ids)
        except StoreError:
            # Started or not, nobody is charged for what was not sent to a child: it is renewed,
            # in case it was started, until the store has it back.
            self._heartbeat.hold(token, ids)
            self.release(chunk)
            raise
        self._heartbeat.hold(token, ours, brisk=any(KINDS[one.job.kind].awaited for one in chunk))
        for one in chunk:
            if one.job.id not in ours:  # its short lease ran out, and another worker has it
                self._leave(one)
        return {(token, unit_id) for unit_id in ours}

    def complete(self, one: Reservation, result: Result | Returned) -> None:
        """Owe the store a result, be it a score or a failure."""
        if not self._results:
            self._oldest = time.monotonic()
        # The process that made a call waits for it, maybe to make the next one.
        self._urgent = self._urgent or isinstance(result, Returned)
        self._results.setdefault(one.token, {})[one.job.id] = result
        self._arrived.append(one.job.id)
        self.scored += 1
        self.failed += bool(result.failures)
        call = KINDS[one.job.kind].awaited
        self.by_search.update({CALLS} if call else set(map(search_of, one.job.searches)))
        self._leave(one)

    def fail(self, one: Reservation, failure: Failure) -> None:
        """Owe the store the failure of a unit that came to no score: a result, too."""
        self.complete(one, KINDS[one.job.kind].failed(failure))

    def crash(self, one: Reservation, how: str) -> None:
        """Owe the store that a unit ended the child that ran it: the unit is charged."""
        unit_id, host = one.job.id, this_process().host
        self.crashed += 1
        self._heartbeat.settle(one.token, [unit_id])
        self.owe(lambda: self._store.claims.crash(one.token, unit_id, how, host))
        self.owe(lambda: self._heartbeat.drop(one.token, [unit_id]))
        self._leave(one)

    def release(self, some: Iterable[Reservation], *, ran: bool = False) -> None:
        """Give back `some`, uncharged; if `ran`, user code of theirs has run for a while."""
        by_token: dict[str, list[str]] = {}
        for one in list(some):
            by_token.setdefault(one.token, []).append(one.job.id)
            self._leave(one)
        for token, ids in by_token.items():
            self._heartbeat.settle(token, ids)
            begun = ids if ran else ()
            self.owe(partial(self._store.claims.release, token, ids, begun=begun))
            self.owe(partial(self._heartbeat.drop, token, ids))

    def owe(self, errand: Callable[[], object]) -> None:
        """Have `errand` done with the next flush, after those before it; it may be repeated."""
        self._owed.append(errand)

    def _leave(self, one: Reservation) -> None:
        self.units.pop(one.key, None)
        self._kill_at.pop(one.key, None)
        self.freed, self.may_be_over = True, not self.units

    def release_waiting(self, *, only_stale: bool = False) -> None:
        """Give back what is not started, or what of it others may be about to take."""
        limit = time.monotonic() - _STALE * self._heartbeat.timing.unstarted
        some = [one for one in self.waiting if not only_stale or one.at < limit]
        for one in some:
            self.waiting.remove(one)
        self.release(some)

    def empty(self) -> bool:
        """Return whether the store has everything."""
        return not self._results and not self._owed and self._hand_in_over is None

    def arrived(self) -> list[str]:
        """Return the units whose results arrived since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def due_in(self) -> float | None:
        """Return the seconds until a flush is due, None if the store is owed nothing."""
        if self._hand_in_over is not None:
            return 0.0 if self._hand_in_over.done() else None
        if self._owed or self._urgent or sum(map(len, self._results.values())) >= MANY:
            return 0.0
        if not self._results:
            return None
        old = min(OLDEST, max(OLD, TIMES * self._took))
        return max(0.0, self._oldest + old - time.monotonic())

    def flush(self) -> None:
        """Give the store what it is owed.

        A StoreError says that the store did not take it, or that its answer was lost.  What is left
        is tried again at the next call, and renewed until then.
        """
        self._end_hand_in()
        self._hand_in(self._results)
        self._urgent = False
        while self._owed:
            self._owed[0]()
            self._owed.popleft()

    def flush_behind(self, done: Callable[[], None]) -> bool:
        """Have another thread hand in all results, and call `done` when it has.

        What it could not do is raised by the next call that gives the store something.  What else
        is owed is done at once.  Return whether the store has answered since the last call.
        """
        answered = self._end_hand_in()
        if self._owed:
            self.flush()
            return True
        if self.due_in() != 0.0:  # only the last one had to be seen to
            return answered
        self._behind, self._results, self._urgent = self._results, {}, False
        over: Future[None] = Future()
        over.add_done_callback(lambda _: done())
        self._hand_in_over = over
        # A thread of its own: a process that ends does not wait for a store that does not answer.
        Thread(
            target=self._hand_in_for, args=(over,), name="optomatic-hand-in", daemon=True
        ).start()
        return answered

    def _hand_in_for(self, over: Future[None]) -> None:
        began = time.monotonic()
        try:
            self._hand_in(self._behind)
            self._took = time.monotonic() - began
        except BaseException as error:
            over.set_exception(error)
        else:
            over.set_result(None)

    def _end_hand_in(self) -> bool:
        """Wait for the other thread, if it is at work; owe again what the store did not take.

        Return whether it was, and all went well.
        """
        if self._hand_in_over is None:
            return False
        try:
            self._hand_in_over.result()
        finally:
            if self._hand_in_over.done():
                self._hand_in_over = None
                for token, results in self._behind.items():
                    self._results[token] = {**results, **self._results.get(token, {})}
                self._behind = {}
        return True

    def _hand_in(self, owed: dict[str, dict[str, Result | Returned]]) -> None:
        """Store results by token, and remove them from `owed`."""
        if not owed:
            return
        for token, results in owed.items():
            self._heartbeat.settle(token, results)
            for result in results.values():
                if isinstance(result, Returned) and result.part is not None:
                    self._store.parts.put(result.part)
        late = self._store.claims.complete_all(self.worker, owed)
        if late:
            log.info("%d results were not taken: others were first", len(late))
        for token, results in owed.items():
            self._heartbeat.drop(token, results)
        owed.clear()

    def try_flush(self) -> bool:
        """Give the store what it takes; return whether it took everything."""
        try:
            self.flush()
        except StoreError as error:
            count = sum(map(len, self._results.values()))
            log.warning("the store does not answer, %d results wait: %s", count, error)
            return False
        return True

    def revoke(self, ids: frozenset[str]) -> None:
        """Note units that are not ours any more, in any thread."""
        self._revoked.put(ids)

    def kill_revoked(self, children: Iterable[Child]) -> None:
        """Kill those of `children` that run what was revoked a moment ago."""
        now = time.monotonic()
        while not self._revoked.empty():
            ids = self._revoked.get()
            ours = [key for key in self.units if key[1] in ids]
            self._kill_at.update(dict.fromkeys(ours, now + _MERCY))
        if not self._kill_at:
            return
        for child in children:
            if child.running and self._kill_at.get(child.running.key, now + 1.0) <= now:
                child.kill("its unit was taken away")
        # Look again a little later at those that are queued behind another unit.
        late = {key: now + _MERCY for key, at in self._kill_at.items() if at <= now}
        self._kill_at.update(late)

    def kill_in(self) -> float | None:
        """Return the seconds until :meth:`kill_revoked` is due, None if nothing was revoked."""
        return min((at - time.monotonic() for at in self._kill_at.values()), default=None)
