"""Which versions stand behind the ends of keys.

::

    environments  {_id: the last 16 characters of keys, v, versions: [[distribution, version], ...]}

There are as many as sets of versions that searches were made with: few, and never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.database import Database

from optomatic.records import SCHEMA
from optomatic.store.faults import Outage
from optomatic.store.forms import VersionsForm
from optomatic.store.patient import VALID, Patient


class Environments:
    """The sets of versions that a store has scores of.  Every call may be repeated."""

    def __init__(self, database: Database[dict[str, Any]], outage: Outage | None = None) -> None:
        self._environments = Patient(database["environments"], outage)

    def others(self, ours: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """Return what is known besides `ours`, by the end of keys; note what is new of `ours`."""
        found = self._environments.read(VersionsForm, {})
        known = {one.id: dict(one.versions) for one in found}
        for end in ours.keys() - known.keys():
            versions = [list(pair) for pair in sorted(ours[end].items())]
            change = {"v": SCHEMA, "versions": {"$literal": versions}}
            self._environments.update({"_id": end}, [{"$set": change}, VALID], upsert=True)
        return {end: versions for end, versions in known.items() if end not in ours}
