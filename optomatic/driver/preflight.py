"""Checks before units are queued: objects that cannot be shared, workers, other versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from joblib import effective_n_jobs

from optomatic.errors import KeyNotCertain, NotShippable, OptomaticError, shown, warn
from optomatic.records import CONTENT
from optomatic.store.connection import Store
from optomatic.worker.host import inside_worker, tags_here, timing_here


def report_doubts(doubts: Sequence[str], refusal: NotShippable | None, workers: int | None) -> None:
    """Warn of objects that cannot be shared with other searches, or with other processes.

    Raises
    ------
    NotShippable
        If other processes are to score what cannot be sent to them.
    """
    if inside_worker():  # nothing is shared anyway
        return
    if refusal is not None and workers is not None:
        raise refusal
    if refusal is not None:
        warn(
            f"{refusal.cause}. So it is scored in this process and by no other worker.",
            KeyNotCertain,
        )
    if doubts:
        warn(
            "Scored for this search only and not reused by later ones, as it cannot be told "
            "for certain when it is equal: " + "; ".join(doubts),
            KeyNotCertain,
        )


def refuse_inside_worker() -> None:
    """Raise OptomaticError in a process that scores for a worker: it has no store of its own."""
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
    """Return the number of local workers: None is this process, 0 leaves all to standalone ones.

    `requires` are tags that a worker must carry; local ones carry those of ``$OPTOMATIC_TAG``.
    Units are `limited` if they have a limit of time or memory.
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

    def note(
        self, store: Store, ours: Mapping[str, Mapping[str, str]], missing: Sequence[str]
    ) -> None:
        """Look for scores of `missing` keys, which have none by the versions that are here."""
        known = frozenset(ours)
        if known not in self._others:
            self._others[known] = store.environments.others(ours)
        for end, theirs in self._others[known].items():
            here = {key[:CONTENT] + end: key for key in missing}
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
