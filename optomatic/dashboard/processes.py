"""Processes that read and draw, so that pages wait for neither.  Knows no page and no search."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

T = TypeVar("T")
#: One may draw while another one reads a large search.
_COUNT = 2
#: How far they stand back where processors are short.
_NICE = 10
#: What reads and draws, imported once for all of them.
_IMPORTS = ["optomatic.dashboard.feed", "optomatic.dashboard.drawing", "matplotlib.pyplot"]


class Processes:
    """Call functions in processes of their own.  They end with this one, however it ends.

    Safe to share among threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = _started()
        # The first one waits for the imports, and pages need not.
        threading.Thread(target=self.submit, args=(os.getpid,), daemon=True).start()

    def submit(self, call: Callable[..., T], *args: Any, **options: Any) -> Future[T]:
        """Have a process call a function that it can import; return what will have its result."""
        with self._lock:
            try:
                return self._pool.submit(call, *args, **options)
            except BrokenProcessPool:  # one was killed: those that waited for it got the error
                self._pool = _started()
                return self._pool.submit(call, *args, **options)

    @staticmethod
    def end() -> None:
        """End all of them at once."""
        for process in multiprocessing.active_children():
            process.terminate()


def _started() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTS)
    return ProcessPoolExecutor(_COUNT, context, _begin)


def _begin() -> None:
    """Prepare a process: it ends with its parent, which alone hears Ctrl-C, and goes first."""
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # pages say what is wrong with a search
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
