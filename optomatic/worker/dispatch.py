"""What a child is sent: units, and where on this machine the parts are that they need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from optomatic.backoff import Patience
from optomatic.errors import BundleDamaged, CacheFull, StoreError
from optomatic.records import Failure, Held
from optomatic.store.claims import Claims
from optomatic.store.parts import Parts
from optomatic.worker.batching import Pace
from optomatic.worker.cache import Cache
from optomatic.worker.digest_check import Refusals
from optomatic.worker.heartbeat import Heartbeat
from optomatic.worker.host import Filter
from optomatic.worker.idle import Rest
from optomatic.worker.pool import Child, Pool
from optomatic.worker.protocol import KINDS
from optomatic.worker.reservations import Account, Intake, Outbox


class Parcels:
    """Gets parts onto this machine and writes the messages that name them.

    Parameters
    ----------
    cache : Cache
        Where they are kept.
    bundles : Parts
        Where they come from.
    filters : sequence of Filter, optional
        Which warnings units are to show; what the child has otherwise, if not given.
    """

    def __init__(
        self, cache: Cache, bundles: Parts, filters: Sequence[Filter] | None = None
    ) -> None:
        self._cache = cache
        self._bundles = bundles
        self._filters = filters

    def fetch(self, shas: Iterable[str], here: set[str]) -> None:
        """Get these parts, but not those that are `here`; add them to these, one after another.

        Raises
        ------
        BundleDamaged
            If one is not in the store as it should be.
        StoreError
            If the store does not answer.
        CacheFull
            If there is no room for one on this machine.
        """
        for sha in set(shas) - here:
            self._get(sha)
            here.add(sha)

    def keep_only(self, units: Iterable[Held]) -> None:
        """Let all parts be removed, should room be needed, but those of `units`."""
        self._cache.let_go({sha for held in units for sha in held.parts})

    def message(self, chunk: Sequence[Held]) -> dict[str, Any]:
        """Return what a child is sent to run `chunk`, whose parts are here."""
        works = list({held.work: held.job for held in chunk}.items())
        number = {work: n for n, (work, _) in enumerate(works)}
        bundles = [
            {
                "key": work,
                "kind": job.kind,
                "spec": dict(job.spec),
                "options": dict(job.options),
            }
            for work, job in works
        ]
        units = [
            [held.job.id, held.job.split, held.job.params_text, number[held.work]] for held in chunk
        ]
        return {
            "do": "score",
            "units": units,
            "bundles": bundles,
            "parts": self._parts(chunk),
            "folder": str(self._cache.root),
            "warnings": self._filters,
        }

    def _parts(self, chunk: Sequence[Held]) -> dict[str, list[str]]:
        """Return kind and path of all that `chunk` needs, by hash."""
        parts = {}
        for sha in {sha for held in chunk for sha in held.parts}:
            kind, path = self._get(sha)
            parts[sha] = [kind, str(path)]
        return parts

    def _get(self, sha: str) -> tuple[str, Path]:
        return self._cache.get(sha, self._bundles.fetch)


# Store -> children: claims units, starts them, and sends them to those who have too little.
#
# A unit is charged to its worker only once it is started, so only little is started ahead
# (:mod:`optomatic.worker.batching`).  A unit that has ended its worker before runs while nothing
# else is started, so that nothing else can be blamed for it.


class Feeder:
    """Feeds the children of `pool`.

    Parameters
    ----------
    claims : Claims
    pool : Pool
    intake : Intake
        Claims, and holds what is not started.
    parcels : Parcels
    heart : Heartbeat
        Renews what is started.
    account : Account
        Takes what cannot be sent.
    outbox : Outbox
        What is in it may come back to the queue.
    pace : Pace
    patience : Patience
        With the store.
    rest : Rest
        Is told of each look at the queue.
    refusals : Refusals
        Hears of what finds no room on this machine.
    clock : callable
        The worker's clock.
    """

    def __init__(
        self,
        claims: Claims,
        pool: Pool,
        intake: Intake,
        parcels: Parcels,
        heart: Heartbeat,
        account: Account,
        outbox: Outbox,
        pace: Pace,
        patience: Patience,
        rest: Rest,
        refusals: Refusals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._pool = pool
        self._intake = intake
        self._parcels = parcels
        self._heart = heart
        self._account = account
        self._outbox = outbox
        self._pace = pace
        self._patience = patience
        self._rest = rest
        self._refusals = refusals
        self._clock = clock

    def feed(self) -> None:
        """Send started units to the children that have too little."""
        hungry = self._hungry()
        if not hungry or self._patience.time_left():
            return
        try:
            if not self._intake.waiting:
                self._claim(len(hungry))
            self._account.release(self._intake.stale())
            if self._intake.waiting:
                self._start(hungry)
        except StoreError as error:
            self._patience.failed(error)

    def time_left(self) -> float | None:
        """Return the seconds until a child may be fed, None if none wants anything."""
        if not self._hungry():
            return None
        return max(self._intake.time_left(), self._patience.time_left())

    def _hungry(self) -> list[Child]:
        """Return the children to be fed, those with the least work first."""
        children = self._pool.children
        if any(child.sent and child.sent[0].job.losses for child in children):
            return []  # it runs alone
        if self._account.left() == 0 and not self._intake.waiting:
            return []
        hungry = [c for c in children if c.ready and self._pace.wants_more(len(c.sent))]
        return sorted(hungry, key=lambda child: len(child.sent))

    def _claim(self, hungry: int) -> None:
        children = len(self._pool.children)
        # What is on its way back to the store may be what is to be claimed next.
        busy = self._pool.busy() or not self._outbox.empty()
        if self._intake.claim(children, hungry, busy=busy, most=self._account.left()):
            self._patience.answered()
            self._parcels.keep_only(self._intake.mine.values())
            self._account.may_be_over = not self._intake.waiting
            self._rest.say()

    def _start(self, hungry: Sequence[Child]) -> None:
        """START what `hungry` get, in one call, and send what is still ours."""
        chunks = self._intake.deal([not child.sent for child in hungry])
        held = self._loadable([held for chunk in chunks for held in chunk])
        if not held:
            return
        ours = self._started(held)
        for child, chunk in zip(hungry, chunks, strict=True):
            self._send(child, [one for one in chunk if one.job.id in ours])
        for one in held:
            if one.job.id not in ours:  # its short lease ran out, and someone else has it
                self._intake.settle(one)

    def _started(self, held: Sequence[Held]) -> frozenset[str]:
        """START `held`; return the ids that are ours from now on."""
        token, ids = held[0].token, [one.job.id for one in held]
        began = self._clock()
        try:
            ours = self._claims.start(token, ids)
        except StoreError:
            # Started or not, nobody is charged for what was not sent to a child: it is renewed,
            # in case it was started, until the store has it back.
            self._heart.hold(token, ids)
            self._account.release(held)
            raise
        self._pace.note_start(self._clock() - began)
        self._heart.hold(token, ours, brisk=any(KINDS[one.job.kind].awaited for one in held))
        return ours

    def _send(self, child: Child, chunk: Sequence[Held]) -> None:
        if chunk:
            child.assign(chunk, self._parcels.message(chunk))

    def _loadable(self, chunk: Sequence[Held]) -> list[Held]:
        """Get the parts of `chunk` onto this machine; fail the units whose parts are damaged.

        Raises
        ------
        CacheFull
            If there is no room for one, and nobody else scores these units.
        """
        here: set[str] = set()
        good = []
        try:
            for held in chunk:
                if self._fetch(held, here):
                    good.append(held)
        except StoreError:
            self._account.release(held for held in chunk if held.job.id in self._intake.mine)
            raise
        except CacheFull as error:
            self._refusals.leave_to_others(held.job.queue, error)
            # What waits may be of that queue too, and is not to be fetched in vain.
            rest = [*chunk[chunk.index(held) :], *self._intake.waiting]
            self._intake.waiting.clear()
            self._account.release(rest)
        return good

    def _fetch(self, held: Held, here: set[str]) -> bool:
        try:
            self._parcels.fetch(held.parts, here)
        except BundleDamaged as error:
            self._account.fail(held, _unloadable(error))
            return False
        return True


def _unloadable(error: BundleDamaged) -> Failure:
    kind = type(error)
    return Failure("load", f"{kind.__module__}.{kind.__qualname__}", str(error), "")
