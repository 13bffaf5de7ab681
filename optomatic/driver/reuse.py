"""Why stored scores are not reused: versions that differ, and state that has moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from optomatic.errors import KeyNotCertain
from optomatic.plan.units.plan import Plan
from optomatic.records import Unit
from optomatic.store.opening import Store
from optomatic.warning import warn

_NAMED = 3


class OtherVersions:
    """Counts units that have a score by other versions of the libraries."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._units = 0

    def note(self, store: Store, plan: Plan, missing: Sequence[Unit]) -> None:
        """Look for scores of `missing`, which have none by the versions that are here."""
        counted: Mapping[str, str] = plan.ingredients.get("environment", {})
        for env in store.jobs.of_other_versions(missing):
            self._units += 1
            theirs = {name: env.get(name) or "none" for name in counted}
            self._found.update(f"{n} {v}" for n, v in theirs.items() if v != counted[n])

    def __str__(self) -> str:
        if not self._units:
            return ""
        names = ", ".join(name for name, _ in self._found.most_common(_NAMED)) or "not known"
        return f"{self._units} of other versions: {names}"


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
