"""Complete and fail: what a worker hands in.

The first good result wins, whoever brings it: a worker whose lease ran out has computed the
same score as the next one.  A failure counts only from the one that holds the claim, so
that a stale worker's trouble cannot hide a good run.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Collection, Mapping
from typing import Any

from optomatic.records import Failure, Result, Returned
from optomatic.store.documents import NOBODY, error_document, result_document
from optomatic.store.patient import Patient
from optomatic.store.workers import this_process

#: Runs of a unit that fails for want of memory and such, on whatever workers.
MACHINE_TRIES = 3

#: Exceptions of the machine, not of the estimator, by the names under which they are stored.
_MACHINE_TYPES = frozenset(
    f"builtins.{name}"
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, MemoryError | OSError | ImportError)
) | {"numpy._core._exceptions._ArrayMemoryError", "numpy.core._exceptions._ArrayMemoryError"}


def is_of_the_machine(failures: Collection[Failure]) -> bool:
    """Tell whether another machine might do better.

    What a call of joblib raises is for its caller alone, whatever it is.

    >>> is_of_the_machine([Failure("fit", "builtins.MemoryError", "", "")])
    True
    """
    return any(f.type in _MACHINE_TYPES and f.stage != "call" for f in failures)


#: What only a process that was told so raises: warnings as errors (``python -W error``), rounding
#: errors as errors (``numpy.errstate``).
#: And what is mended by who has the data: a part that was damaged in the store.
_SETTINGS = re.compile(
    r"Warning$|^builtins\.FloatingPointError$|^optomatic\.errors\.BundleDamaged$"
)


def is_of_its_moment(failures: Collection[Failure]) -> bool:
    """Tell whether a later run might do better, so that nobody is served with the failure.

    >>> is_of_its_moment([Failure("fit", "sklearn.exceptions.ConvergenceWarning", "", "")])
    True
    """
    return is_of_the_machine(failures) or any(_SETTINGS.search(f.type) for f in failures)


#: The same of stored documents, for queries.
ERRORS_OF_A_MOMENT: Mapping[str, Any] = {
    "error.failures.type": {"$in": [*sorted(_MACHINE_TYPES), _SETTINGS]}
}


def _ended(
    unit_id: str, worker: str, result: Result | Returned, error: dict[str, Any] | None = None
) -> dict[str, Any]:
    # All that comes from users goes through $literal: a pipeline evaluates "$5 missing".
    return {
        **NOBODY,
        "wanted_by": [],
        "result": {"$literal": result_document(unit_id, result, error)},
        "error": {"$literal": error},
        "completed_by": {"$literal": worker},
        "completed_on": {"$literal": this_process().host},
        "completed_at": "$$NOW",
    }


def _completion(
    unit_id: str, worker: str, result: Result | Returned
) -> tuple[dict[str, Any], list[Any]]:
    # The latch: from any state but completed, and never again.
    return (
        {"_id": unit_id, "state": {"$ne": "completed"}},
        [{"$set": {**_ended(unit_id, worker, result), "state": "completed"}}],
    )


def _failure(
    unit_id: str, token: str, worker: str, result: Result | Returned, tries: int
) -> tuple[dict[str, Any], list[Any]]:
    query = {"_id": unit_id, "claim": token, "state": "running"}
    error = error_document(result.failures)
    ended = {**_ended(unit_id, worker, result, error), "state": "failed"}
    if not is_of_the_machine(result.failures):
        return query, [{"$set": ended}]
    return query, [{"$set": {"machine_failures": _ONE_MORE}}, *_again_or(ended, tries)]


_ONE_MORE = {"$add": [{"$ifNull": ["$machine_failures", 0]}, 1]}


def _again_or(ended: dict[str, Any], tries: int) -> list[Any]:
    """Queue a unit for another worker, or, after so many tries, end it."""
    over = {"$gte": ["$machine_failures", tries]}
    unwanted = {"$eq": [{"$size": "$wanted_by"}, 0]}
    queued = {
        **dict.fromkeys(ended, None),
        **NOBODY,
        "error": ended["error"],
        "state": {"$cond": [unwanted, "cancelled", "queued"]},
    }
    # Fields that stay as they are where the unit is queued again.
    stay = {"wanted_by": "$wanted_by", "completed_by": None, "completed_at": None, "result": None}
    return [{"$set": {k: {"$cond": [over, v, stay.get(k, queued[k])]} for k, v in ended.items()}}]


class Finishing:
    """The calls by which a worker hands in what it has computed."""

    def __init__(self, units: Patient) -> None:
        self._units = units

    def complete(
        self,
        worker: str,
        token: str,
        results: Mapping[str, Result | Returned],
        *,
        tries: int = MACHINE_TRIES,
    ) -> frozenset[str]:
        """Store results; when this returns they are on the server's disk.

        Parameters
        ----------
        worker, token : str
            Who, under which claim.
        results : mapping of str to Result or Returned
            By unit id.  One with failures makes its unit ``failed``.  Parts of what calls
            returned are in the store already.
        tries : int
            After so many failures of the machine (no memory, no file, no module) a unit has
            failed; before that it is queued for another worker.

        Returns
        -------
        frozenset of str
            Units whose result was not taken, as another was there first or, for a failure,
            as the claim is not ours any more.
        """
        if not results:
            return frozenset()
        changes = [
            _failure(unit_id, token, worker, result, tries)
            if result.failures
            else _completion(unit_id, worker, result)
            for unit_id, result in results.items()
        ]
        if self._units.update_each(changes) == len(changes):
            return frozenset()
        return self._not_taken(worker, token, results)

    def _not_taken(
        self, worker: str, token: str, results: Mapping[str, Result | Returned]
    ) -> frozenset[str]:
        """Return what is not ours; what is ours was stored by a call whose reply was lost."""
        stored = self._units.find(
            {"_id": {"$in": list(results)}}, {"completed_by": 1, "state": 1, "claim": 1}
        )
        taken = {d["_id"] for d in stored if d["completed_by"] == worker}
        return frozenset(set(results) - taken)
