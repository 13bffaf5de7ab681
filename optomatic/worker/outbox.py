"""What a worker owes the store: results, crashes, releases.  Kept until the store has it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

from optomatic.errors import StoreError
from optomatic.records import Result, Returned
from optomatic.store.bundles import Bundles
from optomatic.store.jobs import Jobs
from optomatic.store.workers import Workers
from optomatic.worker.heart import Heart

log = logging.getLogger(__name__)

#: Results are handed in when there are so many, or when the oldest is so many seconds old.
MANY, OLD = 64, 0.05


class Outbox:
    """Hands in results in bulk, and crashes and releases in order.

    What could not be handed in stays and is tried again at the next :meth:`flush`; the
    heart renews it until it is through.
    """

    def __init__(
        self,
        jobs: Jobs,
        bundles: Bundles,
        workers: Workers,
        worker: str,
        host: str,
        heart: Heart,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._bundles = bundles
        self._workers = workers
        self._worker = worker
        self._host = host
        self._heart = heart
        self._clock = clock
        self._results: dict[str, dict[str, Result | Returned]] = {}
        self._count = 0
        self._oldest = 0.0
        self._urgent = False
        self._errands: deque[Callable[[], None]] = deque()

    def result(self, token: str, unit_id: str, result: Result | Returned) -> None:
        """Take the result of a unit or of a call."""
        if not self._count:
            self._oldest = self._clock()
        # Who made a call waits for it, maybe to make the next one.
        self._urgent = self._urgent or isinstance(result, Returned)
        self._results.setdefault(token, {})[unit_id] = result
        self._count += 1

    def crash(self, token: str, unit_id: str, why: str) -> None:
        """Take note that a unit ended the child that ran it."""

        def errand() -> None:
            self._jobs.crash(token, unit_id, why, self._host)
            self._heart.drop(token, [unit_id])

        self._heart.settle([unit_id])
        self._errands.append(errand)

    def release(self, token: str, ids: Iterable[str], begun: Collection[str] = ()) -> None:
        """Take units that are given back uncharged; of `begun` something ran already."""
        ids = list(ids)

        def errand() -> None:
            self._jobs.release(token, ids, begun=begun)
            self._heart.drop(token, ids)

        if ids:
            self._heart.settle(ids)
            self._errands.append(errand)

    def refusal(self, lane: str, why: str) -> None:
        """Take note that this worker leaves a lane alone."""
        self._errands.append(lambda: self._workers.refuses(self._worker, lane, why))

    def acceptance(self, lane: str) -> None:
        """Take note that this worker does so no more."""
        self._errands.append(lambda: self._workers.accepts(self._worker, lane))

    def empty(self) -> bool:
        """Tell whether the store has everything."""
        return not self._count and not self._errands

    def due_in(self) -> float | None:
        """Return the seconds until a flush is due, None if there is nothing to flush."""
        if self._errands or self._urgent or self._count >= MANY:
            return 0.0
        return max(0.0, self._oldest + OLD - self._clock()) if self._count else None

    def flush(self) -> None:
        """Hand in everything.

        Raises
        ------
        StoreError
            The store did not take it (or its answer was lost: all calls may be repeated).
        """
        while self._results:
            token, results = next(iter(self._results.items()))
            self._heart.settle(results)
            for result in results.values():
                if isinstance(result, Returned) and result.part is not None:
                    self._bundles.put(result.part)
            late = self._jobs.complete(self._worker, token, results)
            if late:
                log.info("%d results were not taken: others were first", len(late))
            self._heart.drop(token, results)
            del self._results[token]
            self._count -= len(results)
        self._urgent = False
        while self._errands:
            self._errands[0]()
            self._errands.popleft()

    def try_flush(self) -> bool:
        """Hand in what the store takes; tell whether it took everything."""
        try:
            self.flush()
        except StoreError as error:
            log.warning("the store does not answer, %d results wait: %s", self._count, error)
            return False
        return True
