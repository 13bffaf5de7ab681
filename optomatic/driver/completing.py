"""What of an open search came to an end, for its table; or why there is nothing."""

from __future__ import annotations

from optomatic.driver.ledger import Entry, Ledger
from optomatic.results.progress import FitSummary


def completed(
    ledger: Ledger, summary: FitSummary, interrupt: KeyboardInterrupt | None = None
) -> list[Entry]:
    """Return the candidates all of whose units have an end, those that racing stopped included.

    Raises
    ------
    KeyboardInterrupt
        If there is none but those, as `interrupt` ended the search before.
    ValueError
        If there is none but those, with the reason.
    """
    complete = ledger.complete()
    only_stopped = all(entry.number in ledger.stopped for entry in complete)
    if only_stopped and interrupt is not None:
        raise interrupt
    if only_stopped:
        raise ValueError(_nothing_complete(summary))
    return complete


def _nothing_complete(summary: FitSummary) -> str:
    """Say that no candidate came to a score, and why."""
    why = summary.stopped or summary.left_out or "the generator gave none"
    return (
        f"No candidate was completed ({why}), so there is nothing to choose from. Finished units "
        "are stored: search again, with more time or other filters, and it goes on from there."
    )
