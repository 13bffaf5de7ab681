"""Why stored scores are not reused: versions that differ, and state that has moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from optomatic.errors import KeyNotCertain
from optomatic.plan.units.plan import Plan
from optomatic.records import CONTENT, Unit
from optomatic.store.opening import Store
from optomatic.warning import warn

_NAMED = 3


class OtherVersions:
    """Counts units that have a score by other versions of the libraries."""

    def __init__(self) -> None:
        self._differences: Counter[str] = Counter()
        self._units: set[str] = set()
        #: Sets of versions besides those of a plan, which rounds ask for again and again.
        self._others: dict[frozenset[str], dict[str, dict[str, str]]] = {}

    def note(self, store: Store, plan: Plan, missing: Sequence[Unit]) -> None:
        """Look for scores of `missing`, which have none by the versions that are here."""
        ours = plan.environments
        known = frozenset(ours)
        if known not in self._others:
            self._others[known] = store.environments.others(ours)
        for end, theirs in self._others[known].items():
            here = {unit.key[:CONTENT] + end: unit.key for unit in missing}
            for key in store.jobs.completed(list(here)):
                own = ours.get(here[key][CONTENT:], {})
                names = [name for name in own.keys() | theirs if own.get(name) != theirs.get(name)]
                self._differences.update(f"{n} {theirs.get(n, 'none')}" for n in sorted(names))
                self._units.add(here[key])

    def __str__(self) -> str:
        if not self._units:
            return ""
        names = ", ".join(name for name, _ in self._differences.most_common(_NAMED))
        return f"{len(self._units)} of other versions: {names}"


def report_moved(moved: str | None) -> None:
    """Warn that scoring has changed what the search is made of, at a path, if it has."""
    if moved is not None:
        warn(
            f"`{moved}` changed while units were scored in this process, and scores may depend on "
            "it. They are stored as those of its state before; a later fit in this process has "
            "another one, and scores again. Have nothing in it that scoring changes, or pass it "
            "as a parameter.",
            KeyNotCertain,
        )
