"""The local workers of ``fit``: children of the calling process that stay warm between fits.

A child takes about a second to start, most of it the import of scikit-learn, so those of one
fit are kept for the next: for 300 s without work, and not longer than their process.  A fit
has its children to itself while it lasts; two fits in two threads have two pools.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from optomatic.keys.environment import required_versions
from optomatic.records import Part, Timing, WorkerRecord
from optomatic.store.connection import Store
from optomatic.store.workers import this_process
from optomatic.worker.cache import Cache
from optomatic.worker.forkserver import Setup
from optomatic.worker.host import cache_home, cores, filters_here, tags_here, timing_here
from optomatic.worker.inprocess import NO_HOOKS, Hooks
from optomatic.worker.pool import Pool, current_path, threads_each
from optomatic.worker.worker import Supervisor, WorkSummary

if TYPE_CHECKING:
    from pathlib import Path


#: Seconds after which an idle child ends by itself.
IDLE_SECONDS = 300.0


_lock = threading.Lock()
#: Crews that no fit uses now.
_idle: list[Pool] = []


class LocalPool:
    """`size` local workers, for one caller at a time::

        with local_workers(2) as pool:
            pool.work(store, search, until)

    On entry the children that are missing are started, without waiting for them, so that
    they load while the caller does something else.  On exit they stay, for the next caller.
    """

    def __init__(self, size: int, *, cache: Path | None = None) -> None:
        self.size = size
        self._cache = cache
        self._pool: Pool | None = None

    def __enter__(self) -> LocalPool:
        self._pool = _take(self.size)
        self._pool.fill()
        return self

    def __exit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            _put_back(pool)

    def work(
        self,
        store: Store,
        search: str,
        until: Callable[[], bool],
        timing: Timing | None = None,
        *,
        parts: Iterable[Part] = (),
        on_done: Callable[[Collection[str]], None] = lambda _: None,
        hooks: Hooks = NO_HOOKS,
    ) -> WorkSummary:
        """Score units that `search` waits for, in the calling thread, until `until()`.

        Parameters
        ----------
        until : callable
            Asked whenever nothing is in hand here.
        timing : Timing, optional
            What ``$OPTOMATIC_LEASE`` asks for, if not given.
        parts : iterable of Part
            Parts that the caller has in memory, so that they need not be fetched.
        on_done : callable
            Called in this thread with the ids of units whose results arrived.
        hooks : Hooks
            What the search does meanwhile, in this thread.

        Raises
        ------
        StoreError
            The store does not answer.  What was handed in is stored.
        KeyboardInterrupt
            After what runs was killed, results were handed in and the rest given back.
        """
        if self._pool is None:
            raise RuntimeError("a pool works inside its with block")
        cache = Cache(self._cache or cache_home())
        for part in parts:
            cache.keep(part)
        worker = secrets.token_hex(8)
        process, env = this_process(), required_versions({})
        record = WorkerRecord(worker, "local", process, self.size, env, tags_here())
        timing = timing or timing_here()
        supervisor = Supervisor(
            *(store, self._pool, cache, record, timing),
            search=search,
            on_done=on_done,
            hooks=hooks,
            filters=filters_here(),
        )
        return supervisor.run(until)


def local_workers(size: int) -> LocalPool:
    """Return a pool of `size` local workers, made of those that are warm and of new ones."""
    if size < 1:
        raise ValueError(f"a pool has at least one worker, not {size}")
    return LocalPool(size)


def setup_of(size: int) -> Setup:
    """Return how the children of a pool of `size` are to be started."""
    return Setup(current_path(), threads_each(size, cores()), IDLE_SECONDS)


def _take(size: int) -> Pool:
    """Return a pool of `size` that nobody else uses, with as many warm children as fit."""
    setup = setup_of(size)
    with _lock:
        pool = _idle.pop() if _idle else Pool(size, setup)
    if pool.setup != setup:
        pool.close()  # its children find other modules
        pool.setup = setup
    pool.resize(size)
    return pool


def _put_back(pool: Pool) -> None:
    with _lock:
        _idle.append(pool)


@atexit.register
def close_all() -> None:
    """End all warm children."""
    with _lock:
        pools = _idle.copy()
        _idle.clear()
    for pool in pools:
        pool.close()


def _forget_in_fork() -> None:
    """Leave the children to the process that started them."""
    global _lock
    _lock = threading.Lock()
    for pool in _idle:
        pool.forget()
    _idle.clear()


os.register_at_fork(after_in_child=_forget_in_fork)
