"""The thread that keeps leases alive, and takes back those that others lost.

A unit that is started is ours until its lease ends.  The heart renews all of them each
third of a lease, from its own thread, so that no unit has to be short.  In between it reaps,
which is where a mistake would take healthy units from others: after an outage or a
suspended machine every lease looks over, though everyone is well.  So it reaps only in good
standing (:class:`Standing`).
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from optomatic.errors import StoreError
from optomatic.keys.environment import required_versions
from optomatic.records import Timing, WorkerRecord
from optomatic.store.connection import Store
from optomatic.store.workers import this_process
from optomatic.worker.host import tags_here

log = logging.getLogger(__name__)


#: Whoever makes a call of joblib may want it no longer at any moment, and then waits for the
#: workers that run it: seconds between beats while a call is held, and between two looks
#: whether one is.
BRISK = 0.5
#: Beats and reaps come this much earlier or later than their time, by chance.
JITTER = 0.2


class Standing:
    """Whether this process may reap: only if nothing kept it from noticing that others live.

    It may if it has beaten well and if the server's clock, read before each reap, moved by
    at most one beat since the last reading, with no failed call in between.  Otherwise it
    waits one and a half beats, in which the living renew their leases.  A process that has
    just begun has seen nothing yet and waits too.

    Parameters
    ----------
    beat : float
        Seconds between two beats.
    """

    def __init__(self, beat: float) -> None:
        self._beat = beat
        self._server: datetime | None = None
        self._good = False
        self._not_before = float("-inf")

    def failed(self) -> None:
        """Note that a call failed, so that an unknown time may have passed."""
        self._good = False

    def read(self, server: datetime, now: float) -> bool:
        """Note a reading of the server's clock after a good beat; tell whether to reap.

        Parameters
        ----------
        server : datetime
            The server's clock.
        now : float
            Ours, in seconds.
        """
        last, self._server = self._server, server
        moved = None if last is None else (server - last).total_seconds()
        steady = self._good and moved is not None and 0 <= moved <= self._beat
        self._good = True
        if not steady:
            self._not_before = now + 1.5 * self._beat
        return now >= self._not_before


def take_back_from_the_vanished(store: Store) -> None:
    """Take back at once what workers of this machine held whose processes are gone."""
    gone = store.workers.vanished()
    if gone:
        store.jobs.reap_workers(gone, "its process is gone")
        store.calls.forget(gone)
        store.workers.forget(gone)


class Heart:
    """Renews what is held, and reaps, until stopped.

    Parameters
    ----------
    store : Store
    worker : str
        Id of the worker, noted as seen at each step.
    timing : Timing
    lease : float, optional
        Seconds by which a beat renews; ``timing.lease`` if not given.
    client_of : str, optional
        The search whose client this process is: its record says that it lives.
    lost : callable
        Called in the heart's thread with the ids of units that are no longer ours, whoever
        has them now; what runs for them should stop.
    clock, rng, wait
        For tests.  ``wait(seconds)`` returns True when the heart is to stop.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        timing: Timing,
        *,
        lease: float | None = None,
        client_of: str | None = None,
        lost: Callable[[frozenset[str]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._store = store
        self._worker = worker
        self._timing = timing
        self._lease = lease
        self._client_of = client_of
        self._lost = lost
        self._clock = clock
        self._rng = rng
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._lock = threading.Lock()
        self._held: dict[str, set[str]] = {}
        self._settling: set[str] = set()
        self._brisk: set[str] = set()
        self._beat_at = self._reap_at = clock()
        self._standing = Standing(timing.lease / 3)
        self._well = True
        self._thread: threading.Thread | None = None
        #: Nobody waits for this worker: it looks after others less often.
        self.calm = False
        #: What ended the heart's thread, if not :meth:`stop`.  Then nothing is renewed.
        self.error: Exception | None = None

    # -- what is held ----------------------------------------------------------------------

    def hold(self, token: str, ids: Iterable[str], *, brisk: bool = False) -> None:
        """Renew these started units from now on; if `brisk`, look often if they are ours."""
        ids = set(ids)
        with self._lock:
            self._held.setdefault(token, set()).update(ids)
            if brisk:
                self._brisk.update(ids)
                self._beat_at = min(self._beat_at, self._clock() + self._until_next_beat())

    def settle(self, ids: Iterable[str]) -> None:
        """Go on to renew these, but do not call them lost: they are being handed in."""
        with self._lock:
            self._settling.update(ids)

    def drop(self, token: str, ids: Collection[str] | None = None) -> frozenset[str]:
        """Renew these (None: all under `token`) no longer; return those that were held."""
        with self._lock:
            held = self._held.get(token, set())
            dropped = held.copy() if ids is None else held.intersection(ids)
            held -= dropped
            self._brisk -= dropped
            self._settling.difference_update(dropped if ids is None else ids)
            if not held:
                self._held.pop(token, None)
            return frozenset(dropped)

    def held(self) -> dict[str, frozenset[str]]:
        """Return what is held now, by token."""
        with self._lock:
            return {token: frozenset(ids) for token, ids in self._held.items()}

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to beat, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="optomatic-heart", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Stop beating; returns when no call of the heart is under way, or after `seconds`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def check(self) -> None:
        """Raise what ended the heart, if anything did: without it nothing is renewed."""
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._wait(min(self.pause(), BRISK)):
                if not self.pause():
                    self.step()
        except Exception as error:
            self.error = error
            log.exception("the heart of worker %s stopped: leases run out", self._worker)
            self._lost(frozenset().union(*self.held().values()))

    # -- one step --------------------------------------------------------------------------

    def pause(self) -> float:
        """Return the seconds until something is due."""
        return max(0.0, min(self._beat_at, self._reap_at) - self._clock())

    def step(self) -> None:
        """Do what is due.  A store that cannot be reached is asked again soon, for ever."""
        try:
            now = self._clock()
            if self._rests(now):
                return
            self._store.workers.seen(self._worker)
            if self._client_of is not None:
                self._store.searches.touch(self._client_of)
            if now >= self._beat_at:
                self._beat()
            if now >= self._reap_at:
                self._reap()
        except StoreError as error:
            self._failed(error)
        else:
            self._recovered()

    def _rests(self, now: float) -> bool:
        """Tell whether there is nothing to do; then look again in half a lease.

        Where nothing runs nothing can be taken back, and what begins now is not lost before its
        lease is over.  Idle workers may be many, and should cost next to nothing.
        """
        if not self.calm or self.held() or self._store.jobs.anything_runs():
            return False
        self._store.workers.seen(self._worker)
        # What may have happened meanwhile is not known, so there is no good standing.
        self._standing.failed()
        self._beat_at = self._reap_at = now + self._jittered(self._timing.lease / 2)
        self._recovered()
        return True

    def _beat(self) -> None:
        held = self.held()
        # Late or not: a beat saves a lease for as long as nobody has reaped it.
        lost = self._store.jobs.renew(held, self._lease) if held else frozenset[str]()
        self._beat_at = self._clock() + self._until_next_beat()
        lost = self._taken(lost) if lost else lost
        if lost:
            log.warning("%d units were taken away from worker %s", len(lost), self._worker)
            self._lost(lost)

    def _until_next_beat(self) -> float:
        third = self._timing.lease / 3
        return self._jittered(min(BRISK, third) if self._brisk else third)

    def _taken(self, ids: Collection[str]) -> frozenset[str]:
        """Drop `ids`; return those that were not handed in while the beat was under way."""
        with self._lock:
            settling = frozenset(self._settling)
        dropped = (self.drop(token, ids) for token in self.held())
        return frozenset().union(*dropped) - settling

    def _reap(self) -> None:
        jobs = self._store.jobs
        take_back_from_the_vanished(self._store)  # that is certain, whatever our standing
        if self._standing.read(jobs.server_time(), self._clock()):
            count = jobs.reap()
            if count:
                log.info("took back %d units whose leases had run out", count)
        self._reap_at = self._clock() + self._jittered(self._timing.lease / 6)

    def _failed(self, error: StoreError) -> None:
        self._standing.failed()
        if self._well:
            log.warning("the store does not answer, leases may run out: %s", error)
        self._well = False
        # A beat comes before the next reap.
        again = self._clock() + self._jittered(min(1.0, self._timing.lease / 12))
        self._beat_at, self._reap_at = again, again

    def _recovered(self) -> None:
        if not self._well:
            log.info("the store answers again")
        self._well = True

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + JITTER * (2 * self._rng() - 1))


@contextmanager
def present(
    store: Store, search: str, timing: Timing, *, processes: int, lease: float | None = None
) -> Iterator[tuple[str, Heart]]:
    """Be known to the store, with a heart that beats, as long as the context lasts.

    Parameters
    ----------
    search : str
        Whose client this process is.
    processes : int
        How many units are scored at the same time.
    lease : float, optional
        Seconds for which a started unit is ours without a beat, if not those of `timing`.

    Yields
    ------
    tuple of str and Heart
        The worker's id, and what renews its leases.
    """
    worker = secrets.token_hex(8)
    record = WorkerRecord(
        worker, "here", this_process(), processes, required_versions({}), tags_here()
    )
    store.workers.register(record)
    heart = Heart(store, worker, timing, lease=lease, client_of=search)
    heart.start()
    try:
        yield worker, heart
    finally:
        heart.stop()
        # It holds nothing any more.  Where the store is away others forget it in time, and what
        # ended the work (Ctrl-C, say) is what the caller has to hear of.
        with suppress(StoreError):
            store.workers.leave(worker)
