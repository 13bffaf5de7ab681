"""What of an earlier search is repeated: when its generator was asked and told, and of what."""

from __future__ import annotations

from collections.abc import Sequence

from optomatic.errors import shown
from optomatic.plan.course.earlier import EARLIER, told_in
from optomatic.plan.course.schedule import Event
from optomatic.records import Evaluation
from optomatic.store.opening import Store


def to_repeat(
    store: Store, replay: str, opening: Sequence[Event]
) -> tuple[list[Event], list[Evaluation]]:
    """Return the events of an earlier search, and the scores that it was told before.

    Parameters
    ----------
    replay : str
        Id or name of the search.
    opening : sequence of Event
        What the race of this search begins with; empty if there is none.

    Raises
    ------
    ValueError
        If there is no such search with events, or its race was another one.
    """
    events = _events_of(store, replay)
    recorded = [event for event in events if event[0] == "racing"]
    if recorded != opening:
        raise ValueError(
            f"The search {shown(replay)} was made {_raced(recorded)}, and this one "
            f"{_raced(opening)} cannot repeat it. Nothing was scored. Give racing= and cv= as they "
            "were."
        )
    return [event for event in events if event[0] not in ("racing", EARLIER)], told_in(events)


def _events_of(store: Store, replay: str) -> list[Event]:
    for search in store.searches.ids_of(replay):
        events = store.searches.events(search)
        if events:
            return events
    raise ValueError(
        f"There is no search with a generator of the name or id {shown(replay)} on this database, "
        "so none can be replayed. Nothing was scored. Look at the name, and at db."
    )


def _raced(opening: Sequence[Event]) -> str:
    if not opening:
        return "without racing"
    _, min_splits, alpha, n_splits = opening[0]
    return f"with racing (min_splits={min_splits}, alpha={alpha:g}, {n_splits} splits)"
