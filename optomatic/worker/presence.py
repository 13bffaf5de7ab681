"""Being a worker of the store, for a process that scores or waits for one search."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from optomatic.errors import StoreError
from optomatic.keys.environment import constraints
from optomatic.records import Timing, WorkerRecord
from optomatic.store.opening import Store
from optomatic.store.workers import this_process
from optomatic.worker.heart import Heart
from optomatic.worker.machine import tags_here


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
    record = WorkerRecord(worker, "here", this_process(), processes, constraints({}), tags_here())
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
