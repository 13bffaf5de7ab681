"""From the store to the children: when to claim, of which queues, and what to start and send.

A unit is charged to its worker only once it is started, so only little is started ahead
(:mod:`optomatic.worker.batching`).  A unit that has ended its worker before runs while nothing
else is started, so that nothing else can be blamed for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from optomatic.backoff import Backoff
from optomatic.errors import BundleDamaged, CacheFull, OtherCode, StoreError
from optomatic.records import NO_HOOKS, Failure, Hooks, Reservation
from optomatic.store.connection import Store
from optomatic.store.notifier import Notifier
from optomatic.store.workers import Workers
from optomatic.worker.batching import BatchSizing
from optomatic.worker.disk_cache import Cache
from optomatic.worker.missing_workers import NO_ROOM
from optomatic.worker.pool import Child, Pool
from optomatic.worker.protocol import Refusal
from optomatic.worker.report import Report
from optomatic.worker.reservations import Reservations

log = logging.getLogger(__name__)

#: The id of a search, or a function that returns the ids of several now, in groups: one group is
#: worked off before the next; None for all.
Searches = str | Callable[[], Sequence[Sequence[str]]] | None
#: Returns the queues that a worker may claim.
Queues = Callable[[], Sequence[str]]
#: Kind and path of parts, by hash.
Parts = dict[str, list[str]]

#: Seconds between looks at a queue in which there was nothing, growing; times 0.5 to 1.5.
POLL_SHORT, POLL_LONG = 0.02, 2.0
#: A worker that begins to idle looks as often as after so many looks in vain.
_SOON = 2
#: Seconds between looks while subscribed: a subscription may have failed.
POLL_SUBSCRIBED = 60.0
#: Seconds without work after which a worker is idle: it says so, and subscribes.
IDLE = 1.0
#: Seconds for which a queue that was refused is skipped.
AGAIN = 60.0
#: Characters that a child's channel takes for certain while nobody reads it.
_SMALL = 32_000

_OTHER_CODE = "asks for other code than it has"
_UPDATE = "Update the code on this machine to that of the process that calls fit"
_INSTALL = "Install it in the environment of this worker, or put its folder on PYTHONPATH"
_FREE = "Free some space there, or name another folder with --cache-dir"


@dataclass(frozen=True)
class WorkerOptions:
    """Options of a worker: units to claim, when to end by itself, and callbacks.

    Attributes
    ----------
    search : str or callable, optional
        Only units that this search waits for are claimed, or one of those whose ids it returns,
        in groups: units of the first group are claimed before those of the next.
    queues : callable, optional
        Returns the queues that may be claimed, asked before each claim; all if not given.
    most : int, optional
        The worker ends once it has scored so many units.
    max_idle : float, optional
        The worker ends after so many seconds without work.
    lasting : bool
        Wait without end for a store that does not answer, instead of raising StoreError.
    filters : sequence, optional
        The warnings that units show, as :func:`~optomatic.worker.score.filters_here` returns them.
    report : Report, optional
        Logs what the worker does.
    on_ready : callable
        Called once, when the first child can score.
    on_done : callable
        Called with the ids of units whose results arrived.  What it raises ends the work.
    hooks : Hooks
        What the search does meanwhile, in the worker's thread.
    """

    search: Searches = None
    queues: Queues | None = None
    most: int | None = None
    max_idle: float | None = None
    lasting: bool = False
    filters: Sequence[Sequence[Any]] | None = None
    report: Report | None = None
    on_ready: Callable[[], None] = lambda: None
    on_done: Callable[[Collection[str]], None] = lambda _: None
    hooks: Hooks = NO_HOOKS


class Idle:
    """Decide when an idle worker looks at the queue; a notifier wakes it before.

    `wake` has the worker's loop look around, and call :meth:`look`, in any thread.  Without a
    `notifier` the worker always looks by itself.  If `joined`, the notifier also tells of a
    search that joins units that are queued already.

    Attributes
    ----------
    since : float or None
        Since when there was nothing to claim while nothing ran.
    others_wait : bool
        At the last look something was queued, and this worker could claim none of it.
    """

    def __init__(
        self,
        reservations: Reservations,
        wake: Callable[[], None],
        notifier: Notifier | None = None,
        *,
        joined: bool = False,
    ) -> None:
        self._reservations, self._wake = reservations, wake
        self._subscription = (
            None if notifier is None else notifier.queued(self._notified, joined=joined)
        )
        self._backoff = Backoff(POLL_SHORT, POLL_LONG)
        self._woken = self._hurried = False
        self.since: float | None = None
        self._before: tuple[float, int] | None = None
        self.others_wait = False

    def seconds(self) -> float | None:
        """Return for how long there has been nothing to do, None if there is something."""
        since = self.since  # once, as others than the worker's own thread may ask
        return None if since is None else time.monotonic() - since

    def lasts(self) -> bool:
        """Return whether the worker has been idle for a while."""
        return (self.seconds() or 0.0) > IDLE

    def look(self) -> bool:
        """Have the notifier tell of new work while idle; return whether the worker is."""
        if self._woken:
            self._woken = False
            self.hurry()
        idle = self.lasts()
        if self._subscription is not None:
            (self._subscription.start if idle else self._subscription.pause)()
        return idle

    def stop(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._subscription.stop()

    def _notified(self) -> None:
        self._woken = True  # the worker's thread looks at the queue soon
        self._wake()

    def hurry(self) -> None:
        """Look at the queue at once: something may have been queued.

        Some looks after it come soon, too: it may take a moment to be seen.
        """
        self._backoff.retry(2)
        self._hurried = True

    def time_left(self) -> float:
        """Return the seconds until the queue is to be looked at."""
        freed = self._reservations.freed and not (self.found_none and self._reservations.units)
        return 0.0 if freed else self._backoff.time_left()

    @property
    def found_none(self) -> bool:
        """The last look found nothing to claim."""
        return self._backoff.failures > 0

    def begin_look(self) -> bool:
        """Note that the queue is looked at; return whether a cheap look is enough at first."""
        cheap = self.since is not None and not self._hurried
        self._hurried = self.others_wait = False
        if self._reservations.freed:
            # A free worker looks often; with nothing in hand also for units that run alone.
            self._backoff.retry(self._backoff.failures if self._reservations.units else 0)
            self._reservations.freed = False
        return cheap

    def found_work(self) -> None:
        """Note that something was claimed."""
        scored = self._reservations.scored
        if self.since is not None or self._before is None or self._before[1] != scored:
            self._before = (self.since or time.monotonic(), scored)
        self.since = None
        self._backoff.succeeded()

    def found_nothing(self, *, busy: bool) -> None:
        """Note that there was nothing to claim, while something is started if `busy`."""
        # A paused subscription listens on for some seconds, but does not notify: then a worker
        # with a child to spare beside a long unit has to look.
        subscribed = self._subscription is not None and self._subscription.active and self.lasts()
        # Nobody tells of new work yet, which often comes within a moment.
        if self._subscription is not None and self.since is not None and not self.lasts():
            self._backoff.failures = min(self._backoff.failures, _SOON)
        self._backoff.failed(POLL_SUBSCRIBED if subscribed else POLL_LONG)
        if not busy and self.since is None:
            self.since = time.monotonic()

    def refused(self, queue: str) -> None:
        """Count as idle since before `queue` was claimed, if nothing else was or is in hand."""
        if all(one.job.queue == queue for one in self._reservations.units.values()):
            before, scored = self._before or (None, None)
            self.since = before if scored == self._reservations.scored else None


class SkippedQueues:
    """The queues that a worker may claim, without those that it skips for a while.

    A queue is skipped if its code is not the same here, or its data find no room on the disk.  A
    child that was running for a while may only be behind its files, so it is replaced, and the new
    one tries.  A queue that this one refuses too is skipped for a minute, as the code may be
    updated, and then tried again by a new child.  Clients that wait learn of it from `workers`.
    A worker of a search in its own process, with `allowed` None, cannot skip: the search ends.
    """

    def __init__(
        self,
        allowed: Queues | None,
        workers: Workers,
        reservations: Reservations,
        idle: Idle,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._workers = allowed, workers
        self._reservations, self._idle, self._clock = reservations, idle, clock
        self._skipped_until: dict[str, float] = {}
        #: Why queues were refused of which nothing was scored since.
        self._why: dict[str, str] = {}
        #: The children that were there when a queue was first refused, by pid.
        self._there: dict[str, frozenset[int]] = {}

    def claimable(self) -> Sequence[str] | None:
        """Return what may be claimed now, None for all."""
        if self._allowed is None:
            return None
        now = self._clock()
        for queue in [queue for queue, until in self._skipped_until.items() if now >= until]:
            del self._skipped_until[queue]  # a new child may try it
            self._there.pop(queue, None)
        return [queue for queue in self._allowed() if queue not in self._skipped_until]

    def is_trial(self, queue: str) -> bool:
        """Return whether `queue` was refused, and not scored since."""
        return queue in self._why

    def accepted(self, queue: str) -> None:
        """Note that `queue` is scored here."""
        if self._why.pop(queue, None) is not None:
            self._reservations.owe(lambda: self._workers.accepts(self._reservations.worker, queue))

    def refused(
        self, child: Child, one: Reservation, refusal: Refusal, children: Sequence[Child]
    ) -> None:
        """Skip the queue of `one`, the first unit of `child`, if a new child would refuse it too.

        Raises
        ------
        OtherCode
            If only children of this process score.
        """
        queue = one.job.queue
        level = logging.DEBUG if self.is_trial(queue) else logging.INFO
        log.log(level, "child %d is replaced, as it refused a unit: %s", child.pid, refusal.why)
        if refusal.child == "behind":
            return
        # A child that had loaded other work already was still started later than those that were
        # there at the first refusal.
        there = self._there.setdefault(queue, frozenset(other.pid for other in children))
        if refusal.child != "fresh" and child.pid in there:
            return
        if self._allowed is not None:
            advice = _UPDATE if refusal.failure is None else _INSTALL
            self._skip(queue, refusal.why, _OTHER_CODE, advice)
        elif refusal.failure is not None:
            self._reservations.fail(child.finish(), refusal.failure)
        else:
            raise OtherCode(
                "The workers of this search do not have what this process has: "
                f"{refusal.why}. Nothing was scored with it; all finished scores are stored. If "
                "the file of a module was edited since this process has imported it, restart this "
                "process and fit again; n_jobs=None scores with what this process has."
            )

    def no_room(self, queue: str, error: CacheFull) -> None:
        """Skip `queue`, or raise `error` if only children of this process score."""
        if self._allowed is None:
            raise error
        self._skip(queue, NO_ROOM, f"finds no room here ({error.where})", _FREE)

    def _skip(self, queue: str, why: str, what: str, advice: str) -> None:
        """Claim nothing of `queue` for a while; say so if the reason is new."""
        self._idle.refused(queue)
        if queue in self._skipped_until:  # another child of the same time
            return
        self._skipped_until[queue] = self._clock() + AGAIN
        if self._why.get(queue) == why:
            return
        self._why[queue] = why
        worker = self._reservations.worker
        log.warning(
            f"worker {worker[:4]} leaves alone what {what}: {why}. {advice}: this worker looks "
            "again every minute. Nothing was scored with it, and other workers go on"
        )
        self._reservations.owe(lambda: self._workers.refuses(worker, queue, why))


class Dispatch:
    """Keep the children of `pool` busy."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        cache: Cache,
        reservations: Reservations,
        idle: Idle,
        options: WorkerOptions,
    ) -> None:
        self._store, self._pool, self.cache = store, pool, cache
        self._reservations, self._idle, self._options = reservations, idle, options
        self.skipped = SkippedQueues(options.queues, store.workers, reservations, idle)
        self.sizing = BatchSizing()

    def run(self) -> bool:
        """Send started units to the children that have too little; return if the store was asked.

        Raises
        ------
        StoreError
        """
        reservations = self._reservations
        children = self._with_too_little()
        if not children:
            return False
        asked = not reservations.waiting and self._claim(len(children))
        reservations.release_waiting(only_stale=True)
        if not reservations.waiting:
            return asked
        # Who would want more soon is sent it with the same START, which costs as much for all.
        soon = [c for c in self._ready() if c not in children and self.sizing.takes(len(c.sent))]
        return self._start([*children, *soon]) or asked

    def time_left(self) -> float | None:
        """Return the seconds until something is to be claimed or started, None if nothing is."""
        if not self._with_too_little():
            return None
        return 0.0 if self._reservations.waiting else self._idle.time_left()

    def left(self) -> int | None:
        """Return how many units may still be claimed, None if there is no limit."""
        if (most := self._options.most) is None:
            return None
        return max(0, most - self._reservations.scored - len(self._reservations.units))

    def _with_too_little(self) -> list[Child]:
        """Return the children that want units, those with the fewest first."""
        children = self._pool.children
        if any(child.sent and child.sent[0].job.losses for child in children):
            return []  # it runs alone
        if self.left() == 0 and not self._reservations.waiting:
            return []
        return [child for child in self._ready() if self.sizing.wants_more(len(child.sent))]

    def _ready(self) -> list[Child]:
        """Return the children that can score, those with the fewest units first."""
        ready = [child for child in self._pool.children if child.ready]
        return sorted(ready, key=lambda child: len(child.sent))

    def _claim(self, idle_children: int) -> bool:
        """Claim a batch, unless the last look was a moment ago; return if the store was asked."""
        idle, reservations = self._idle, self._reservations
        if idle.time_left():
            return False
        # Units on their way back to the store may be the next to claim.
        busy = self._pool.busy() or not reservations.empty()
        cheap = idle.begin_look()
        if cheap and not self._store.claims.anything_queued():
            idle.found_nothing(busy=busy)
        elif self._reserve(idle_children, busy=busy):
            idle.found_work()
        else:
            idle.others_wait = cheap
            idle.found_nothing(busy=busy)
        self.cache.let_go({sha for one in reservations.units.values() for sha in one.parts})
        reservations.may_be_over = not reservations.waiting
        return True

    def _reserve(self, idle_children: int, *, busy: bool) -> int:
        """Claim from the first group of searches that has something for this worker."""
        batch, left = self.sizing.batch(len(self._pool.children), idle_children), self.left()
        count = batch if left is None else min(batch, left)
        search = self._options.search
        groups = search() if callable(search) else [search]
        queues = self.skipped.claimable()
        for group in groups:
            if found := self._reservations.claim(count, queues, group, alone=not busy, most=left):
                return found
            if busy and group != groups[-1] and self._store.claims.any_lost(queues, group):
                break  # it runs alone, and before what comes after its search
        return 0

    def _start(self, children: Sequence[Child]) -> bool:
        """START a chunk for each child, in one call, and send what is still ours."""
        share = ceil(len(self._reservations.waiting) / len(children))
        token = self._reservations.waiting[0].token
        chunks = [self._cut(token, share, reads=not child.sent) for child in children]
        chunk, parts = self._with_parts([one for some in chunks for one in some])
        if not chunk:
            return False
        began = time.monotonic()
        ours = self._reservations.start(chunk)
        self.sizing.started(time.monotonic() - began)
        for child, some in zip(children, chunks, strict=True):
            if started := [one for one in some if one.key in ours]:
                child.assign(started, self._message(started, parts))
        return True

    def _cut(self, token: str, share: int, *, reads: bool) -> list[Reservation]:
        """Take out one chunk, of at most `share` units.

        A unit that is not measured yet, or has ended a worker before, goes alone.  A busy child
        does not read, and is sent only as much as its channel holds.
        """
        waiting = self._reservations.waiting
        chunk: list[Reservation] = []
        seconds, size = 0.0, 0
        while waiting and waiting[0].token == token and len(chunk) < share:
            one = waiting[0]
            takes = self.sizing.seconds_of(one.work)
            alone = takes is None or one.job.losses > 0
            seconds += takes or 0.0
            size += len(one.job.params_text)
            fits = self.sizing.fits(len(chunk) + 1, seconds)
            if chunk and (alone or not fits or size > _SMALL):
                break
            if size > _SMALL and not reads:
                break
            chunk.append(waiting.popleft())
            if alone:
                break
        return chunk

    def _with_parts(self, chunk: Sequence[Reservation]) -> tuple[list[Reservation], Parts]:
        """Get the parts of `chunk` onto this machine; fail the units whose parts are damaged.

        Raises
        ------
        StoreError
        CacheFull
            If there is no room for one, and no other worker scores these units.
        """
        reservations = self._reservations
        parts: Parts = {}
        good: list[Reservation] = []
        try:
            for one in chunk:
                try:
                    for sha in one.parts:
                        if sha not in parts:
                            kind, path = self.cache.get(sha, self._store.parts.fetch)
                            parts[sha] = [kind, str(path)]
                    good.append(one)
                except BundleDamaged as error:
                    kind = f"{type(error).__module__}.{type(error).__qualname__}"
                    reservations.fail(one, Failure("load", kind, str(error), ""))
        except StoreError:
            reservations.release(one for one in chunk if one.key in reservations.units)
            raise
        except CacheFull as error:
            self.skipped.no_room(one.job.queue, error)
            reservations.release(chunk[chunk.index(one) :])
            # Waiting units may be of that queue too: do not fetch their parts in vain.
            reservations.release_waiting()
        return good, parts

    def _message(self, chunk: Sequence[Reservation], parts: Parts) -> dict[str, Any]:
        """Return the message that has a child run `chunk`."""
        works = {one.work: one.job for one in chunk}
        number = {work: n for n, work in enumerate(works)}
        return {
            "do": "score",
            "units": [
                [one.job.id, one.job.split, one.job.params_text, number[one.work]] for one in chunk
            ],
            "bundles": [
                {
                    "key": work,
                    "kind": job.kind,
                    "spec": dict(job.spec),
                    "options": dict(job.options),
                }
                for work, job in works.items()
            ],
            "parts": {sha: parts[sha] for one in chunk for sha in one.parts},
            "folder": str(self.cache.root),
            "cache_size": self.cache.largest,
            "warnings": self._options.filters,
        }
