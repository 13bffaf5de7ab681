"""Reap, crash, cancel, retry: what becomes of units whose worker or search is gone.

A lease that runs out after the start is charged to the unit: it may be what killed its
worker.  After ``timing.max_losses`` of them it is ``dead``, and only an explicit retry
reopens it.  Nothing else is ever charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optomatic.records import Timing
from optomatic.store.claiming import SANE
from optomatic.store.documents import NOBODY, storable
from optomatic.store.patient import Patient

_UNWANTED = {"$eq": [{"$size": "$wanted_by"}, 0]}
_HISTORY = 5


class Recovering:
    """The calls that take units back, by anybody.  Safe to share among threads."""

    def __init__(self, units: Patient, timing: Timing) -> None:
        self._units = units
        self._timing = timing

    def reap(self) -> int:
        """Take back the units whose leases have run out, by the server's clock.

        To be called only by a process in good standing: after an outage or a suspended
        machine all leases look over, though their workers live.

        Returns
        -------
        int
            How many.
        """
        return self._take_back(
            {"state": "running", **SANE, "$expr": {"$lt": ["$lease_until", "$$NOW"]}},
            "its lease ran out",
            None,
        )

    def reap_workers(self, workers: Sequence[str], why: str) -> int:
        """Take back at once what `workers` hold, whose processes are known to be gone."""
        if not workers:
            return 0
        return self._take_back(
            {"state": "running", **SANE, "worker": {"$in": list(workers)}}, why, None
        )

    def crash(self, token: str, unit_id: str, why: str, host: str) -> bool:
        """Take back one unit whose process died while its worker lives; tell whether it was ours.

        Parameters
        ----------
        why : str
            The signal or exit status.
        host : str
            Where.
        """
        query = {"_id": unit_id, "claim": token, "state": "running", **SANE}
        return bool(self._take_back(query, why, host))

    def _take_back(self, query: dict[str, Any], why: str, host: str | None) -> int:
        return self._units.update(query, self._loss(why, host))

    def _loss(self, why: str, host: str | None) -> list[dict[str, Any]]:
        where = {"$literal": storable(host)} if host else {"$ifNull": ["$host", "an unknown host"]}
        entry = {
            "attempt": "$attempt",
            "worker": "$worker",
            "host": where,
            "began": {"$cond": ["$started", {"$ifNull": ["$started_at", None]}, None]},
            "at": "$$NOW",
            "why": {"$literal": storable(why)},
        }
        lost_on = {"$slice": [{"$concatArrays": ["$lost_on", [where]]}, -_HISTORY]}
        state = {
            "$switch": {
                "branches": [
                    {"case": {"$gte": ["$losses", self._timing.max_losses]}, "then": "dead"},
                    {"case": _UNWANTED, "then": "cancelled"},
                ],
                "default": "queued",
            }
        }
        return [
            {
                "$set": {
                    "losses": {"$add": ["$losses", {"$cond": ["$started", 1, 0]}]},
                    "lost_on": {"$cond": ["$started", lost_on, "$lost_on"]},
                    "history": {"$slice": [{"$concatArrays": ["$history", [entry]]}, -_HISTORY]},
                }
            },
            {"$set": {**NOBODY, "state": state}},
            {"$set": {"wanted_by": {"$cond": [{"$eq": ["$state", "dead"]}, [], "$wanted_by"]}}},
        ]

    def cancel(self, search: str, ids: Sequence[str] | None = None) -> None:
        """Withdraw what only `search` waits for; of that only `ids`, if they are given.

        A worker that runs such a unit learns of it with its next beat.  A result that comes
        all the same is welcome.
        """
        unwanted = {"$cond": [_UNWANTED, None, "$claim"]}
        some = {} if ids is None else {"_id": {"$in": list(ids)}}
        self._units.update(
            {"wanted_by": search, "state": {"$in": ["queued", "running"]}, **some},
            [
                {"$set": {"wanted_by": {"$setDifference": ["$wanted_by", [{"$literal": search}]]}}},
                {
                    "$set": {
                        "state": {"$cond": [_UNWANTED, "cancelled", "$state"]},
                        "claim": unwanted,
                        "worker": {"$cond": [_UNWANTED, None, "$worker"]},
                        "started": {"$cond": [_UNWANTED, False, "$started"]},
                        "lease_until": {"$cond": [_UNWANTED, None, "$lease_until"]},
                    }
                },
            ],
        )

    def cancel_queued(self, search: str) -> None:
        """Withdraw what only `search` waits for and nobody works on, in one update."""
        self._units.update(
            {"wanted_by": search, "state": "queued"},
            [
                {"$set": {"wanted_by": {"$setDifference": ["$wanted_by", [{"$literal": search}]]}}},
                {"$set": {"state": {"$cond": [_UNWANTED, "cancelled", "$state"]}}},
            ],
        )

    def retry(self, ids: Sequence[str], search: str) -> int:
        """Queue units again that have failed or are dead, with a clean slate, for `search`."""
        return self._units.update(
            {"_id": {"$in": list(ids)}, "state": {"$in": ["failed", "dead"]}},
            {
                "$set": {
                    **NOBODY,
                    "state": "queued",
                    "losses": 0,
                    "machine_failures": 0,
                    "wanted_by": [search],
                    "result": None,
                    "completed_by": None,
                    "completed_on": None,
                    "completed_at": None,
                    "error": None,
                }
            },
        )
