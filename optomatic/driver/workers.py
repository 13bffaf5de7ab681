"""Who scores: this process, local workers, or standalone ones alone."""

from __future__ import annotations

from joblib import effective_n_jobs

from optomatic.errors import shown
from optomatic.worker.machine import inside_worker, tags_here, timing_here

#: Processes of one machine, which are each a Python with what it has imported.
_MOST = 4096


def workers_for(
    n_jobs: int | None, *, requires: tuple[str, ...] = (), limited: bool = False
) -> int | None:
    """Return the number of local workers: None is this process, 0 is nobody.

    Parameters
    ----------
    n_jobs : int or None
        As the user gives it.
    requires : tuple of str
        Tags that a worker must carry; local ones carry those of ``$OPTOMATIC_TAG``.
    limited : bool
        Whether units have a limit of time or memory.
    """
    if inside_worker():
        return None
    timing_here()  # raises here, before anything is queued
    if n_jobs == 0 or not set(requires) <= set(tags_here()):
        return 0
    k = int(effective_n_jobs(n_jobs))
    if k > _MOST:
        raise OverflowError(
            f"n_jobs is {shown(n_jobs)}, and one machine runs at most {_MOST:,} workers. Nothing "
            "was queued. n_jobs=-1 is one a core."
        )
    # A limit is held by ending the process that scores.
    return None if k == 1 and not limited else k
