"""What was acknowledged, compared with what is stored, when all is over."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from . import notes
from .reading import result


def of_workers(folder: Path, units: dict[str, Any]) -> dict[str, int]:
    """Judge what was acknowledged to whoever scored."""
    told = [entry for path in folder.glob("acknowledged.*") for entry in notes.read(path)]
    counts = Counter[str]()
    by_unit: dict[str, set[str]] = {}
    for entry in told:
        by_unit.setdefault(entry["unit"], set()).add(entry["worker"])
        unit = units.get(entry["unit"], {"state": "removed"})
        if unit["state"] != "completed" or unit["completed_by"] != entry["worker"]:
            counts["lost"] += 1
        elif result(unit) != {"test": entry["test"], "train": entry["train"]}:
            counts["changed"] += 1
    counts["recorded twice"] = sum(len(workers) > 1 for workers in by_unit.values())
    return {"acknowledged": len(told), **counts}


def of_clients(folder: Path, units: dict[str, Any]) -> dict[str, int]:
    """Judge what clients got, by their own lists."""
    stored = {
        (unit["params"]["alpha"], unit["spec"]["split"]): result(unit)["test"]
        for unit in units.values()
        if unit["state"] == "completed"
    }
    counts = Counter[str](searches=0, calls=0)
    for path in sorted(folder.glob("client[0-9]")):
        for entry in notes.read(path):
            counts["calls" if entry["kind"] == "calls" else "searches"] += 1
            if "error" in entry:
                counts["errors"] += 1
                print(f"-- {path.name}, task {entry['ended']}\n{entry['error']}", file=sys.stderr)
            counts["tries"] += entry.get("tries", 0)
            counts["wrong calls"] += not entry.get("right", True)
            if entry.get("differs"):
                counts["wrong tables"] += 1
                print(f"-- {path.name}, task {entry['ended']} differs: {entry}", file=sys.stderr)
            for alpha, split, score in entry.get("scores", ()):
                counts["scores"] += 1
                now = stored.get((alpha, split))
                counts["lost"] += now is None
                counts["changed"] += now is not None and now != score
    return dict(counts)


def of_units(units: dict[str, Any]) -> dict[str, float]:
    """Judge how the units ended, and how often they were run."""
    states = Counter(unit["state"] for unit in units.values())
    again = sum(max(0, unit["runs"] - 1) for unit in units.values())
    uncharged = sum(max(0, unit["runs"] - 1 - unit["losses"]) for unit in units.values())
    return {
        "units": len(units),
        "without a score": len(units) - states["completed"],
        "again": 100 * again / max(1, len(units)),
        "again without a loss": 100 * uncharged / max(1, len(units)),
    }
