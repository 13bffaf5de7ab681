"""attach: a search that runs or ran, seen from anywhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from optomatic.plan.extras import decode_extra
from optomatic.plan.params import decode
from optomatic.records import Described, Outcome
from optomatic.results.frames import evaluation_of, frame_of
from optomatic.store.opening import Store, open_store

_ENDED = ("completed", "failed", "dead")
_POLL = 0.5


def attach(name: str, *, db: str | None = None) -> AttachedSearch:
    """Return a search by its name or id, to watch it, wait for it, read it, or withdraw it.

    Parameters
    ----------
    name : str
        Of several searches of one name the one that began last.
    db : str, default=None
        As in :class:`MongoSearchCV`.

    Raises
    ------
    ValueError
        If there is none.
    StoreError
        If the database cannot be used.
    """
    with open_store(db) as store:
        found = store.searches.ids_of(name)
        if not found:
            raise ValueError(
                f"There is no search of the name or id {name!r} in {store.shown_uri}. Look at the "
                "name, and at db."
            )
        return AttachedSearch(found[0], db)


class AttachedSearch:
    """A search in the database.  Each call reads it anew, with a connection of its own.

    Attributes
    ----------
    search_id : str
    """

    def __init__(self, search_id: str, db: str | None) -> None:
        self.search_id = search_id
        self._db = db

    def record(self) -> dict[str, Any]:
        """Return what was asked, by whom, with what, and how it ended: plain values.

        ``state`` is ``running``, ``completed``, ``interrupted`` or ``cancelled``.
        """
        with open_store(self._db) as store:
            return store.searches.record(self.search_id)

    def counts(self) -> dict[str, int]:
        """Return how many units are in each state."""
        with open_store(self._db) as store:
            units = _units(store, self.search_id)
        return dict(Counter(_state(unit) for unit in units.values()))

    def frame(self) -> pd.DataFrame:
        """Return one row a candidate, in the order in which they were asked for.

        Columns as those of ``results_`` of :class:`MongoSearch`; scores are means over the
        splits that have one.  A value that is an object, such as an estimator, is shown as
        text: nothing that is stored is run to read it.
        """
        with open_store(self._db) as store:
            units = _units(store, self.search_id)
        rows: dict[str, list[Described]] = {}
        for unit in units.values():
            if unit is not None:
                rows.setdefault(unit.params_text, []).append(unit)
        return frame_of(
            (
                evaluation_of(n, _params(row[0]), [_end(unit) for unit in row])
                for n, row in enumerate(rows.values())
            ),
            extras=decode_extra,
        )

    def wait(
        self,
        timeout: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> bool:
        """Wait until nothing that the search wants is queued or running.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Returns
        -------
        bool
            Whether it is over; False after `timeout`.
        """
        began = clock()
        with open_store(self._db) as store:
            while _goes_on(store, self.search_id):
                if timeout is not None and clock() - began >= timeout:
                    return False
                sleep(_POLL)
            if store.searches.record(self.search_id).get("state") == "running":
                # It was left to workers, or its client is gone: nobody else will write it.
                store.searches.finish(self.search_id, "completed", {"line": "left to workers"})
        return True

    def cancel(self) -> None:
        """Withdraw the search: its client ends with SearchCancelled, what is scored stays."""
        with open_store(self._db) as store:
            store.searches.withdraw(self.search_id)
            store.jobs.cancel(self.search_id)

    def __repr__(self) -> str:
        return f"AttachedSearch({self.search_id!r})"


def _units(store: Store, search: str) -> Mapping[str, Described | None]:
    ids = store.searches.unit_ids(search)
    found = store.jobs.described(ids)
    return {unit_id: found.get(unit_id) for unit_id in ids}


def _goes_on(store: Store, search: str) -> bool:
    """Tell whether units wait, or a client that was seen of late may ask for more."""
    return store.jobs.waits(search) or store.searches.is_running(search)


def _state(unit: Described | None) -> str:
    return "missing" if unit is None else unit.outcome.state


def _end(unit: Described) -> Outcome | None:
    return unit.outcome if unit.outcome.state in _ENDED else None


def _params(unit: Described) -> Mapping[str, Any]:
    try:
        return decode(unit.params_text, _refuse)
    except _Opaque:
        return unit.params


class _Opaque(Exception):
    """A value is an object, and would have to be unpickled."""


def _refuse(sha: str) -> object:
    raise _Opaque(sha)
