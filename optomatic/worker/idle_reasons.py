"""Why a worker idles while units are queued: none of them are for it, or it lacks something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from optomatic.records import Lane, WorkerRecord
from optomatic.store.extending import search_of
from optomatic.store.opening import Store
from optomatic.worker.ability import needs
from optomatic.worker.assignment import Names
from optomatic.worker.logs import readable
from optomatic.worker.resting import Reason

#: So many lanes are looked at, and so many names and reasons are said.
_LANES, _NAMED = 20, 5


class IdleReasons:
    """Finds out, in a few queries, why nothing of what is queued can be claimed.

    Parameters
    ----------
    store : Store
    record : WorkerRecord
        Of the worker.
    installed : mapping
        The versions here, of whatever is asked for.
    names : callable or None
        Returns the names or ids of the searches that it works for; None for all.
    """

    def __init__(
        self,
        store: Store,
        record: WorkerRecord,
        installed: Mapping[str, str],
        names: Names | None,
    ) -> None:
        self._store = store
        self._record = record
        self._installed = installed
        self._names = names
        self._known = dict(record.env)

    def __call__(self) -> list[Reason]:
        """Return the reasons, none if nothing is queued.

        What is found to be missing is noted in the store, for those who wait.

        Raises
        ------
        StoreError
        """
        names = None if self._names is None else list(self._names())
        if names is None:
            return self._lacking(self._store.jobs.queued_lanes(_LANES))
        groups = self._store.searches.that_may_wait(names)
        own = self._store.jobs.queued_lanes(_LANES, [i for ids in groups for i in ids])
        if not own and not self._store.jobs.queued_lanes(1):
            return []
        return [*self._unknown(names), *(self._lacking(own) if own else self._of_others(names))]

    def _unknown(self, names: Sequence[str]) -> list[Reason]:
        there = self._store.searches.that_are_there(names)
        unknown = [name for name in names if name not in there]
        if not unknown:
            return []
        here = self._store.searches.latest_names(_NAMED + 1)
        return [Reason(f"no search named {_listed(map(_quoted, unknown))}", _here(here))]

    def _of_others(self, names: Sequence[str]) -> list[Reason]:
        there = self._store.searches.that_are_there(names)
        known = [name for name in names if name in there]
        if not known:
            return []
        return [Reason(f"nothing is queued for {_listed(map(_quoted, known))}, only for others")]

    def _lacking(self, queued: Mapping[str, str]) -> list[Reason]:
        """Return what is lacking for lanes, each with the searches that ask for it."""
        lanes = self._store.workers.lanes(list(queued))
        self._note(lanes)
        found: dict[str, list[str]] = {}
        for lane in lanes:
            if why := needs(self._installed, self._record.tags, lane):
                found.setdefault(why, []).append(search_of(queued[lane.id]))
        named = self._store.searches.sizes_of([i for ids in found.values() for i in ids])
        return [
            Reason(why, _for([named[i][0] for i in ids if i in named]))
            for why, ids in sorted(found.items())[:_NAMED]
        ]

    def _note(self, lanes: Sequence[Lane]) -> None:
        """Let those who wait know which versions are here of what they need."""
        asked = {name: self._installed[name] for lane in lanes for name in lane.env}
        if not asked.items() <= self._known.items():
            self._known.update(asked)
            self._store.workers.has(self._record.id, self._known)


def _quoted(name: str) -> str:
    return f"'{readable(name)}'"


def _listed(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _here(names: Sequence[str]) -> str:
    if not names:
        return ", and there is no search here at all"
    more = ", ..." if len(names) > _NAMED else ""
    return f", searches here: {', '.join(map(readable, names[:_NAMED]))}{more}"


def _for(names: Sequence[str]) -> str:
    return f" (for {_listed(map(readable, names))})" if names else ""
