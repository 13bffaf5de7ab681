"""Counts of units by state."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from optomatic.store.faults import patiently


def count_states(database: Database[dict[str, Any]], search: str | None = None) -> dict[str, int]:
    """Return how many units are in each state; with `search`, of those that it waits for."""
    query = {} if search is None else {"wanted_by": search}
    stages: list[dict[str, Any]] = [
        {"$match": query},
        {"$group": {"_id": "$state", "n": {"$sum": 1}}},
    ]
    found = patiently(lambda: list(database["units"].aggregate(stages)))
    return {group["_id"]: group["n"] for group in found}
