"""What is said before anything is queued, of what cannot be shared."""

from __future__ import annotations

from optomatic.errors import KeyNotCertain
from optomatic.plan.units.plan import Plan
from optomatic.warning import warn
from optomatic.worker.machine import inside_worker


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
