"""What the units of a search came to, for whoever looks at it from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optomatic.records import SCHEMA, Described
from optomatic.store.documents import OUTCOME_FIELDS, Document, outcome_of
from optomatic.store.patient import Patient
from optomatic.store.submitting import slices

_FIELDS = {**OUTCOME_FIELDS, "params": 1, "params_text": 1, "spec.split": 1}
_STATE = {"key": 1, "state": 1}


class Reading:
    """Calls that only read.  Safe to share among threads."""

    def __init__(self, units: Patient) -> None:
        self._units = units

    def described(self, ids: Sequence[str]) -> dict[str, Described]:
        """Return what there is of each of `ids`, by the id that was asked.

        Where a completed unit under other terms serves, that is returned.  What is not there
        (or is in a format of another version) is missing.
        """
        return {unit_id: _described(document) for unit_id, document in self._best(ids, _FIELDS)}

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the state of each of `ids`, as of :meth:`described`."""
        return {unit_id: document["state"] for unit_id, document in self._best(ids, _STATE)}

    def _best(
        self, ids: Sequence[str], fields: Mapping[str, Any]
    ) -> Iterator[tuple[str, Document]]:
        for some in slices(ids):
            wanted = {_key(unit_id): unit_id for unit_id in some}
            query = {"key": {"$in": list(wanted)}, "v": SCHEMA}
            best: dict[str, Document] = {}
            for document in self._units.find(query, fields):
                unit_id = wanted[document["key"]]
                if unit_id not in best or _rank(document, unit_id) < _rank(best[unit_id], unit_id):
                    best[unit_id] = document
            yield from best.items()


def _key(unit_id: str) -> str:
    return unit_id.split(":")[1]


def _rank(document: Mapping[str, Any], unit_id: str) -> tuple[bool, bool]:
    return document["state"] != "completed", document["_id"] != unit_id


def _described(document: Document) -> Described:
    return Described(
        params=document["params"],
        params_text=document["params_text"],
        split=document["spec"]["split"],
        outcome=outcome_of(document),
    )
