"""How a search ends: with all of its units, or withdrawn from the queue."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from optomatic.errors import RecordsInvalid, StoreError, warn
from optomatic.records import Outcome
from optomatic.results.summary import FitSummary
from optomatic.store.connection import Store

#: Why a search ended that was ended by Ctrl-C.
INTERRUPTED = "interrupted"


def report_invalid(count: int) -> None:
    """Warn that records could not be read, and that their units were scored again."""
    if count:
        warn(
            f"{count} stored record{'s' if count != 1 else ''} could not be read, as something "
            "changed what was written. Nothing was lost: the units were scored again. What was "
            "there is kept in the database, in the state 'invalid', with the reason.",
            RecordsInvalid,
        )


def withdraw(store: Store, search: str, error: BaseException) -> bool:
    """Take the units that only this search waits for out of the queue; keep the first error.

    Return whether that could be done; if not, `error` says so.
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
    """Raise `interrupt`, if there is one, in place of errors within.

    After Ctrl-C the user wants to be out, even if no table can be made of the complete candidates.
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
    invalid: int = 0,
    **texts: str,
) -> FitSummary:
    """Sum up a search: all outcomes, the ids of those scored while it ran, sizes of its workers.

    `sizes` are the numbers of processes of workers that have several, by id.
    """
    workers = {worker for i in fresh if (worker := outcomes[i].worker)}
    return FitSummary(
        units=len(outcomes),
        stored=len(outcomes) - len(fresh),
        scored=len(fresh),
        failed=sum(outcome.state != "completed" for outcome in outcomes.values()),
        workers=sum((sizes or {}).get(worker, 1) for worker in workers),
        seconds=seconds,
        invalid=invalid,
        **texts,
    )
