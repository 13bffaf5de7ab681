"""Checks before units are queued: objects that cannot be shared, adaptive searches, workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from joblib import effective_n_jobs

from optomatic.candidates.ask_tell import is_generator
from optomatic.candidates.filters import Filter
from optomatic.candidates.racing import Racing
from optomatic.candidates.stopping import Budget
from optomatic.errors import KeyNotCertain, OptomaticError, shown, warn
from optomatic.planning.planner import Plan
from optomatic.records import CONTENT, Unit
from optomatic.store.connection import Store
from optomatic.worker.host import inside_worker, tags_here, timing_here


def report_doubts(plan: Plan, workers: int | None) -> None:
    """Warn of what cannot be shared with other searches, and with other processes.

    Raises
    ------
    NotShippable
        If other processes are to score what cannot be sent to them.
    """
    if inside_worker():  # nothing is shared anyway
        return
    if plan.refusal is not None and workers is not None:
        raise plan.refusal
    if plan.refusal is not None:
        warn(
            f"{plan.refusal.cause}. So it is scored in this process and by no other worker.",
            KeyNotCertain,
        )
    if plan.doubts:
        warn(
            "Scored for this search only and not reused by later ones, as it cannot be told "
            "for certain when it is equal: " + "; ".join(plan.doubts),
            KeyNotCertain,
        )


def is_open(
    space: Any,
    filters: Sequence[Filter],
    budget: Budget,
    replay: str | None,
    racing: Racing | None = None,
) -> bool:
    """Tell whether candidates come about while others are scored, or the end is open."""
    lazy = is_generator(space) and not hasattr(space, "__len__")
    decided_on_the_way = bool(filters) or budget.limits_anything() or racing is not None
    return lazy or decided_on_the_way or replay is not None


def refuse_inside_worker() -> None:
    """Raise what says that this process has no store of its own.

    Raises
    ------
    OptomaticError
        In a process that scores for a worker.
    """
    if inside_worker():
        raise OptomaticError(
            "A search with a generator, filters, a budget, racing or replay keeps its course in "
            "the store, and a process that scores for a worker has none. Nothing was scored. "
            "Inside of what is scored use a search over a grid or over draws."
        )


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


_NAMED = 3


class OtherVersions:
    """Counts units that have a score by other versions of the libraries."""

    def __init__(self) -> None:
        self._differences: Counter[str] = Counter()
        self._units: set[str] = set()
        #: Sets of versions besides those of a plan, which rounds ask for again and again.
        self._others: dict[frozenset[str], dict[str, dict[str, str]]] = {}

    def note(self, store: Store, plan: Plan, missing: Sequence[Unit]) -> None:
        """Look for scores of `missing`, which have none by the versions that are here."""
        ours = plan.environments
        known = frozenset(ours)
        if known not in self._others:
            self._others[known] = store.environments.others(ours)
        for end, theirs in self._others[known].items():
            here = {unit.key[:CONTENT] + end: unit.key for unit in missing}
            for key in store.jobs.completed(list(here)):
                own = ours.get(here[key][CONTENT:], {})
                names = [name for name in own.keys() | theirs if own.get(name) != theirs.get(name)]
                self._differences.update(f"{n} {theirs.get(n, 'none')}" for n in sorted(names))
                self._units.add(here[key])

    def __str__(self) -> str:
        if not self._units:
            return ""
        names = ", ".join(name for name, _ in self._differences.most_common(_NAMED))
        return f"{len(self._units)} of other versions: {names}"


def report_moved(moved: str | None) -> None:
    """Warn that scoring has changed what the search is made of, at a path, if it has."""
    if moved is not None:
        warn(
            f"`{moved}` changed while units were scored in this process, and scores may depend on "
            "it. They are stored as those of its state before; a later fit in this process has "
            "another one, and scores again. Have nothing in it that scoring changes, or pass it "
            "as a parameter.",
            KeyNotCertain,
        )
