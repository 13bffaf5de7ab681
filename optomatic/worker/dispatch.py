"""From the store to the children: claim units, START them, and send them with their parts.

A unit is charged to its worker only once it is started, so only little is started ahead
(:mod:`optomatic.worker.batching`).  A unit that has ended its worker before runs while nothing
else is started, so that nothing else can be blamed for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from optomatic.errors import BundleDamaged, CacheFull, StoreError
from optomatic.records import NO_HOOKS, Failure, Hooks, Reservation
from optomatic.store.connection import Store
from optomatic.worker.batching import CHUNK_SECONDS, BatchSizing
from optomatic.worker.cache import Cache
from optomatic.worker.digest_check import Queues, SkippedQueues
from optomatic.worker.idle import Idle
from optomatic.worker.pool import Child, Pool
from optomatic.worker.report import Report
from optomatic.worker.reservations import Reservations
from optomatic.worker.score import Filter

#: The id of a search, or what returns the ids of several now, in groups: one is worked off
#: before the next; None for all.
Searches = str | Callable[[], Sequence[Sequence[str]]] | None
#: Kind and path of parts, by hash.
Parts = dict[str, list[str]]

#: Characters that a child's channel takes for certain while nobody reads it.
_SMALL = 32_000


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker claims, when it ends by itself, and which callbacks it has.

    Parameters
    ----------
    search : str or callable, optional
        Only units that this search waits for are claimed, or one of those whose ids it returns,
        in groups: what the first has is claimed before what the next has.
    queues : callable, optional
        Returns the queues that may be claimed, asked before each claim; all if not given.
    most : int, optional
        The worker ends once it has scored so many units.
    max_idle : float, optional
        The worker ends after so many seconds without work.
    lasting : bool
        Wait without end for a store that does not answer, instead of raising StoreError.
    filters : sequence of Filter, optional
        Which warnings units are to show; what the children have otherwise, if not given.
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
    filters: Sequence[Filter] | None = None
    report: Report | None = None
    on_ready: Callable[[], None] = lambda: None
    on_done: Callable[[Collection[str]], None] = lambda _: None
    hooks: Hooks = NO_HOOKS


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
        return (bool(reservations.waiting) and self._start(children)) or asked

    def time_left(self) -> float | None:
        """Return the seconds until something is to be claimed or started, None if nothing is."""
        if not self._with_too_little():
            return None
        return 0.0 if self._reservations.waiting else self._idle.time_left()

    def left(self) -> int | None:
        """Return how many units may still be claimed, None if there is no limit."""
        if self._options.most is None:
            return None
        return max(
            0, self._options.most - self._reservations.scored - len(self._reservations.units)
        )

    def _with_too_little(self) -> list[Child]:
        """Return the children that want units, those with the fewest first."""
        children = self._pool.children
        if any(child.sent and child.sent[0].job.losses for child in children):
            return []  # it runs alone
        if self.left() == 0 and not self._reservations.waiting:
            return []
        wanting = [c for c in children if c.ready and self.sizing.wants_more(len(c.sent))]
        return sorted(wanting, key=lambda child: len(child.sent))

    # -- claim -----------------------------------------------------------------------------

    def _claim(self, idle_children: int) -> bool:
        """Claim a batch, unless the last look was a moment ago; return if the store was asked."""
        idle, reservations = self._idle, self._reservations
        if idle.time_left():
            return False
        # What is on its way back to the store may be what is to be claimed next.
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
            if found := self._reservations.claim(count, queues, group, alone=not busy):
                return found
            if busy and group != groups[-1] and self._store.claims.any_lost(queues, group):
                break  # it runs alone, and before what comes after its search
        return 0

    # -- start -----------------------------------------------------------------------------

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
        """Take out one chunk: at most `share` units, or 50 ms of them.

        What is not measured yet, or has ended a worker before, goes alone.  A busy child does
        not read, and is sent only as much as its channel holds.
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
            if chunk and (alone or seconds > CHUNK_SECONDS or size > _SMALL):
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
                    self._fetch(one, parts)
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
            # What waits may be of that queue too, and is not to be fetched in vain.
            reservations.release_waiting()
        return good, parts

    def _fetch(self, one: Reservation, parts: Parts) -> None:
        for sha in one.parts:
            if sha not in parts:
                kind, path = self.cache.get(sha, self._store.parts.fetch)
                parts[sha] = [kind, str(path)]

    def _message(self, chunk: Sequence[Reservation], parts: Parts) -> dict[str, Any]:
        """Return what a child is sent to run `chunk`."""
        needed = {sha: parts[sha] for one in chunk for sha in one.parts}
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
            "parts": needed,
            "folder": str(self.cache.root),
            "warnings": self._options.filters,
        }
