"""A reader that remembers each score it has ever seen, and compares it with what is stored."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

#: Seconds between two looks, at least; and so many times as long as a look takes.
_PAUSE, _TIMES = 0.5, 5
_FIELDS = dict.fromkeys(
    ("state", "params.alpha", "spec.split", "result.test", "result.train",
     "completed_by", "completed_at", "runs", "losses"), 1
)  # fmt: skip


def scores(stored: Any) -> Any:
    """Return stored scores by metric."""
    return dict(stored) if isinstance(stored, list) else stored


def result(unit: dict[str, Any]) -> dict[str, Any]:
    """Return what must never change of a completed unit."""
    return {name: scores(unit["result"][name]) for name in ("test", "train")}


class Reader(threading.Thread):
    """Reads all completed units, again and again.

    Attributes
    ----------
    counts : Counter
        ``lost``: it was completed, and is not any more.  ``changed``: it has another score.
        ``recorded twice``: it was completed again, with the same score.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(name="reader", daemon=True)
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri, timeoutMS=5000)
        database = self._client.get_default_database("optomatic")
        self._units = database.get_collection("units", read_concern=ReadConcern("majority"))
        safe = WriteConcern(w="majority", j=True)
        self._marks = database.get_collection("soak", write_concern=safe)
        self._over = threading.Event()
        self._seen: dict[str, tuple[Any, Any]] = {}
        self.counts: Counter[str] = Counter()
        self.looks = 0

    def run(self) -> None:
        """Look until told to finish; a server that is away is asked again."""
        pause = _PAUSE
        while not self._over.wait(pause):
            began = time.monotonic()
            with suppress(PyMongoError):
                self.look()
            pause = max(_PAUSE, _TIMES * (time.monotonic() - began))

    def finish(self) -> list[dict[str, Any]]:
        """Look for the last time; return all units, whatever their state."""
        self._over.set()
        self.join()
        self.look()
        return list(self._units.find({"kind": "score", "ids": None}, _FIELDS))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def describe(self) -> str:
        """Tell of some units that have no end yet: what clients wait for."""
        query = {"state": {"$in": ["queued", "running"]}}
        fields = dict.fromkeys(("params", "params_text", "options", "spec", "history"), 0)
        try:
            waiting = [str(unit) for unit in self._units.find(query, fields).limit(3)]
            number = self._units.count_documents(query)
        except PyMongoError as error:
            return f"the servers do not say which units wait: {error}"
        return "\n".join([f"{number} units wait, such as", *waiting])

    def look(self) -> None:
        """Compare what is stored with what was."""
        found = list(self._units.find({"kind": "score", "state": "completed"}, _FIELDS))
        # A standalone server shows what it has not on disk yet.  Once this is, all the above is.
        self._marks.update_one({"_id": 0}, {"$inc": {"looks": 1}}, upsert=True)
        now = {
            unit["_id"]: (result(unit), (unit["completed_by"], unit["completed_at"]))
            for unit in found
        }
        for unit_id, (score, how) in self._seen.items():
            score_now, how_now = now.get(unit_id, (None, None))
            if score_now is None:
                self.counts["lost"] += 1
            elif score_now != score:
                self.counts["changed"] += 1
            elif how_now != how:
                self.counts["recorded twice"] += 1
        self._seen = now
        self.looks += 1
