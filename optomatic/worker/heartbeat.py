"""The heartbeat: a thread that renews leases, and reaps those that other workers lost.

A started unit is ours until its lease ends.  The heartbeat renews all of them each third of a
lease, from its own thread, so that no unit has to be short.  In between it reaps, which is where
a mistake would take healthy units from others: after an outage or a suspended machine every lease
looks over, though everyone is well.  So the :class:`ReapGuard` has to allow it.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Literal

from optomatic import _config
from optomatic.errors import StoreError
from optomatic.keys.environment import required_versions
from optomatic.planning.constraints import tags_of
from optomatic.records import WorkerRecord
from optomatic.store.connection import Store
from optomatic.store.workers import this_process

log = logging.getLogger(__name__)


#: Seconds between beats while a call of joblib is held, and between two looks whether one is: its
#: caller may cancel it at any moment, and then waits for the workers that run it.
BRISK = 0.5
#: Seconds until the first beat, at most: a short search ends before.
_FIRST = 1.0
#: Beats and reaps come this much earlier or later than their time, by chance.
JITTER = 0.2


def tags_here(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the tags that ``$OPTOMATIC_TAG`` gives to workers, separated by commas."""
    try:
        return tags_of((_config.setting(_config.TAG, environ) or "").replace(",", " ").split())
    except ValueError as error:
        raise ValueError(f"$OPTOMATIC_TAG: {error}") from None


class ReapGuard:
    """Allow this process to reap only if nothing kept it from noticing that others live.

    It may if it has beaten well and if the server's clock, read before each reap, moved by
    at most one beat since the last reading, with no failed call in between.  Otherwise it
    waits one and a half beats, in which the living renew their leases.  A process that has
    just begun has seen nothing yet and waits too.  `beat` is the time between two beats.
    """

    def __init__(self, beat: float) -> None:
        self._beat = beat
        self._server: datetime | None = None
        self._good = False
        self._not_before = float("-inf")

    def failed(self) -> None:
        """Note that a call failed, so that an unknown time may have passed."""
        self._good = False

    def allows(self, server: datetime, now: float) -> bool:
        """Note the server's clock and ours after a good beat; return whether to reap."""
        last, self._server = self._server, server
        moved = None if last is None else (server - last).total_seconds()
        steady = self._good and moved is not None and 0 <= moved <= self._beat
        self._good = True
        if not steady:
            self._not_before = now + 1.5 * self._beat
        return now >= self._not_before


def reap_vanished(store: Store) -> None:
    """Take back at once what workers of this machine held whose processes are gone."""
    gone = store.workers.vanished()
    if gone:
        store.claims.reap_workers(gone, "its process is gone")
        store.calls.forget(gone)
        store.workers.forget(gone)


class Heartbeat:
    """Renew started units, and reap, until stopped.

    `lease` is the seconds by which a beat renews, if not that of the store.  `client_of` is the
    search whose client this process is: its record says that the client lives.  ``revoked(ids)``
    is called in the heartbeat's thread with units that are no longer ours: they should stop.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        *,
        lease: float | None = None,
        client_of: str | None = None,
        revoked: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        self._store, self.worker, self.timing = store, worker, store.timing
        self._lease, self._client_of, self._revoked = lease, client_of, revoked
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self._held: dict[str, set[str]] = {}
        #: By token, too: the worker may have claimed a unit again that it still owes.
        self._settling: set[tuple[str, str]] = set()
        self._brisk: set[str] = set()
        # The worker was just registered, and holds nothing yet.
        self._beat_at = self._reap_at = time.monotonic() + self._jittered(
            min(_FIRST, self.timing.lease / 3)
        )
        self._guard = ReapGuard(self.timing.lease / 3)
        self._well = True
        self._thread: threading.Thread | None = None
        #: The worker is idle, so it looks after others less often.
        self.calm = False
        #: The error that ended the thread, if one did.  Then nothing is renewed.
        self.error: Exception | None = None

    def hold(self, token: str, ids: Iterable[str], *, brisk: bool = False) -> None:
        """Renew these started units from now on; if `brisk`, look often if they are ours."""
        ids = set(ids)
        if not ids:
            return
        with self._lock:
            self._held.setdefault(token, set()).update(ids)
            if brisk:
                self._brisk.update(ids)
                self._beat_at = min(self._beat_at, time.monotonic() + self._until_next_beat())

    def settle(self, token: str, ids: Iterable[str]) -> None:
        """Go on to renew these, but do not call them revoked: they are being handed in."""
        with self._lock:
            self._settling.update((token, unit_id) for unit_id in ids)

    def drop(self, token: str, ids: Collection[str] | None = None) -> frozenset[str]:
        """Renew these (None: all under `token`) no longer; return those that were held."""
        with self._lock:
            held = self._held.get(token, set())
            dropped = held.copy() if ids is None else held.intersection(ids)
            held -= dropped
            self._brisk -= dropped
            over = dropped if ids is None else ids
            self._settling.difference_update((token, unit_id) for unit_id in over)
            if not held:
                self._held.pop(token, None)
            return frozenset(dropped)

    def held(self) -> dict[str, frozenset[str]]:
        """Return what is held now, by token."""
        with self._lock:
            return {token: frozenset(ids) for token, ids in self._held.items()}

    def start(self) -> None:
        """Begin to beat, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="optomatic-heartbeat", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Stop beating; return when no call is under way, or after `seconds`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def check(self) -> None:
        """Raise the error that ended the heartbeat, if one did: then nothing is renewed."""
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._stopping.wait(min(self._pause(), BRISK)):
                if not self._pause():
                    self._step()
        except Exception as error:
            self.error = error
            log.exception("the heartbeat of worker %s stopped: leases run out", self.worker)
            self._revoked(frozenset().union(*self.held().values()))

    def _pause(self) -> float:
        """Return the seconds until something is due."""
        return max(0.0, min(self._beat_at, self._reap_at) - time.monotonic())

    def _step(self) -> None:
        """Do what is due.  Try again soon, without end, while the store does not answer."""
        try:
            now = time.monotonic()
            if self._rests(now):
                return
            self._store.workers.seen(self.worker)
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
        """Return whether there is nothing to do; then look again in half a lease.

        Where nothing runs nothing can be reaped, and what begins now is not lost before its
        lease is over.  Idle workers may be many, and should cost next to nothing.
        """
        if not self.calm or self.held() or self._store.claims.anything_runs():
            return False
        self._store.workers.seen(self.worker)
        # Changes meanwhile are not noticed.
        self._guard.failed()
        self._beat_at = self._reap_at = now + self._jittered(self.timing.lease / 2)
        self._recovered()
        return True

    def _beat(self) -> None:
        held = self.held()
        # Late or not: a beat saves a lease for as long as nobody has reaped it.
        revoked = self._store.claims.renew(held, self._lease) if held else frozenset[str]()
        self._beat_at = time.monotonic() + self._until_next_beat()
        # A result may have been handed in while the beat was under way: that unit is not revoked.
        with self._lock:
            settling = frozenset(self._settling)
        dropped = {(t, i) for t in self.held() for i in self.drop(t, revoked)} if revoked else set()
        if revoked := frozenset(unit_id for _, unit_id in dropped - settling):
            log.warning("%d units were taken away from worker %s", len(revoked), self.worker)
            self._revoked(revoked)

    def _until_next_beat(self) -> float:
        third = self.timing.lease / 3
        return self._jittered(min(BRISK, third) if self._brisk else third)

    def _reap(self) -> None:
        reap_vanished(self._store)  # their end is certain, so no guard is needed
        if self._guard.allows(self._store.jobs.server_time(), time.monotonic()):
            count = self._store.claims.reap()
            if count:
                log.info("took back %d units whose leases had run out", count)
        self._reap_at = time.monotonic() + self._jittered(self.timing.lease / 6)

    def _failed(self, error: StoreError) -> None:
        self._guard.failed()
        if self._well:
            log.warning("the store does not answer, leases may run out: %s", error)
        self._well = False
        # A beat comes before the next reap.
        again = time.monotonic() + self._jittered(min(1.0, self.timing.lease / 12))
        self._beat_at, self._reap_at = again, again

    def _recovered(self) -> None:
        if not self._well:
            log.info("the store answers again")
        self._well = True

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + JITTER * (2 * random.random() - 1))


def new_record(
    kind: Literal["here", "local", "standalone"], processes: int, tags: tuple[str, ...] = ()
) -> WorkerRecord:
    """Return the record of a new worker, which is this process."""
    env = required_versions({})
    return WorkerRecord(secrets.token_hex(8), kind, this_process(), processes, env, tags)


@contextmanager
def registered(
    store: Store, search: str, *, processes: int, lease: float | None = None
) -> Iterator[Heartbeat]:
    """Register this process, the client of `search`, as a worker of so many `processes`.

    A started unit is ours for `lease` seconds without a beat, if not for those of the store.
    """
    record = new_record("here", processes, tags_here())
    store.workers.register(record)
    heartbeat = Heartbeat(store, record.id, lease=lease, client_of=search)
    heartbeat.start()
    try:
        yield heartbeat
    finally:
        heartbeat.stop()
        # It holds nothing any more.  Where the store is away others forget it in time, and the
        # caller has to hear of what ended the work (Ctrl-C, say), not of the store.
        with suppress(StoreError):
            store.workers.leave(record.id)
