"""Which searches are open: their candidates, or their end, come about as others are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optomatic.errors import OptomaticError
from optomatic.plan.course.filtering import Filter
from optomatic.plan.course.proposing import is_generator
from optomatic.plan.course.racing import Racing
from optomatic.plan.course.stopping import Budget
from optomatic.worker.machine import inside_worker


def is_open(
    space: Any,
    filters: Sequence[Filter],
    budget: Budget,
    replay: str | None,
    racing: Racing | None = None,
) -> bool:
    """Tell whether candidates come about while others are scored, or the end is open."""
    lazy = is_generator(space) and not hasattr(space, "__len__")
    decided_on_the_way = bool(filters) or budget.limits_anything() or racing is not None
    return lazy or decided_on_the_way or replay is not None


def refuse_inside_worker() -> None:
    """Raise what says that this process has no store of its own.

    Raises
    ------
    OptomaticError
        In a process that scores for a worker.
    """
    if inside_worker():
        raise OptomaticError(
            "A search with a generator, filters, a budget, racing or replay keeps its course in "
            "the store, and a process that scores for a worker has none. Nothing was scored. "
            "Inside of what is scored use a search over a grid or over draws."
        )
