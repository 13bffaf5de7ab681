"""How a search ends: with all of its units, or withdrawn from the queue."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from optomatic.errors import BundleDamaged, RecordsInvalid, StoreError, warn
from optomatic.records import Outcome
from optomatic.results.progress import FitSummary
from optomatic.store.connection import Store


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of a search.

    Attributes
    ----------
    outcomes : dict of str to Outcome
        By unit id: of all its units, or of an interrupted search those that have an end.
    fresh : frozenset of str
        Units that were scored while it ran.
    summary : FitSummary
    interrupt : KeyboardInterrupt or None
        What ended it before its units had; to be raised once use is made of the rest.
    """

    outcomes: dict[str, Outcome]
    fresh: frozenset[str]
    summary: FitSummary
    interrupt: KeyboardInterrupt | None = None


def has_ended(outcome: Outcome | None) -> bool:
    """Tell whether no worker will change a unit by itself any more."""
    return outcome is not None and outcome.state in ("completed", "failed", "dead")


def lacks_parts(outcome: Outcome | None) -> bool:
    """Tell whether a unit could not be scored as what it needs was damaged in the store."""
    failures = outcome.result.failures if outcome is not None and outcome.result else ()
    return any(f.stage == "load" and f.type == _DAMAGED for f in failures)


_DAMAGED = f"{BundleDamaged.__module__}.{BundleDamaged.__qualname__}"
#: A search stores its parts anew so many times, and then takes the failures for what they are.
MENDS = 3


def report_invalid(count: int) -> None:
    """Warn that records could not be read, and that their units were scored again."""
    if count:
        warn(
            f"{count} stored record{'s' if count != 1 else ''} could not be read, as something "
            "changed what was written. Nothing was lost: the units were scored again. What was "
            "there is kept in the database, in the state 'invalid', with the reason.",
            RecordsInvalid,
        )


#: Why a search ended that somebody ended by Ctrl-C.
INTERRUPTED = "interrupted"


def withdraw(store: Store, search: str, error: BaseException) -> bool:
    """Leave the queue without what only this search waits for; keep the first error.

    Returns
    -------
    bool
        Whether that could be done; if not, `error` says so.
    """
    if isinstance(error, KeyboardInterrupt):
        error.add_note(
            "What was scored is stored: the same search, made again, does only the rest."
        )
    try:
        store.jobs.cancel(search)
        store.searches.finish(search, INTERRUPTED, {"error": type(error).__name__})
    except StoreError as second:
        error.add_note(
            f"The units of this search could not be withdrawn from the queue ({second}); "
            "workers may go on with them. Nothing that was scored is lost."
        )
        return False
    return True


@contextmanager
def rather(interrupt: KeyboardInterrupt | None) -> Iterator[None]:
    """Raise `interrupt`, if there is one, in place of what is raised within.

    Who pressed Ctrl-C wants to be out, whatever cannot be made of what was complete by then.
    """
    try:
        yield
    except Exception as error:
        if interrupt is None:
            raise
        raise interrupt from error


def summary_of(
    outcomes: Mapping[str, Outcome],
    fresh: Collection[str],
    seconds: float,
    sizes: Mapping[str, int] | None = None,
    *,
    left_out: str = "",
    stopped: str = "",
    raced: str = "",
    earlier: str = "",
    other_versions: str = "",
    invalid: int = 0,
) -> FitSummary:
    """Sum up a search.

    Parameters
    ----------
    outcomes : mapping of str to Outcome
        Of all its units that have an end.
    fresh : collection of str
        Those of them that were scored while it ran.
    sizes : mapping of str to int, optional
        Processes of workers by id, of those that have several and count as so many.
    invalid : int
        Stored records that could not be read, so that their units were queued anew.
    """
    workers = {worker for i in fresh if (worker := outcomes[i].worker)}
    return FitSummary(
        units=len(outcomes),
        stored=len(outcomes) - len(fresh),
        scored=len(fresh),
        failed=sum(outcome.state != "completed" for outcome in outcomes.values()),
        workers=sum((sizes or {}).get(worker, 1) for worker in workers),
        seconds=seconds,
        left_out=left_out,
        stopped=stopped,
        raced=raced,
        earlier=earlier,
        other_versions=other_versions,
        invalid=invalid,
    )
