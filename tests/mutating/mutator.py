"""One random change of a stored document, or beside it, and how it is put right again."""

from __future__ import annotations

import copy
import datetime
import math
import random
import string
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from pymongo.database import Database

Document = dict[str, Any]
Place = tuple[str | int, ...]

#: What a field may be set to, by the name that a report shows.
VALUES: dict[str, Any] = {
    "null": None,
    "a text": "zzz",
    "a long text": "long " * 60,
    "an empty text": "",
    "0": 0,
    "-1": -1,
    "0.5": 0.5,
    "1e308": 1e308,
    "NaN": math.nan,
    "inf": math.inf,
    "2**40": 2**40,
    "true": True,
    "false": False,
    "a date": datetime.datetime(2001, 2, 3),
    "a list": [1, "zzz"],
    "an empty list": [],
    "a dict": {"zzz": 1},
    "an empty dict": {},
    "binary": b"zzz",
    "an ObjectId": ObjectId("0123456789ab0123456789ab"),
}
STATES = ("queued", "running", "completed", "failed", "dead", "cancelled", "zzz")
NUMBERS_OF_SCHEMA: dict[str, Any] = {"2": 2, "0": 0, "'1'": "1", "null": None}


class NotApplicable(Exception):
    """The draw does not fit the document, or the server does not store what came of it."""


@dataclass
class Mutation:
    """What is changed, in words, and what it takes to do and to undo it."""

    collection: str
    document: Any
    place: Place
    kind: str
    text: str
    value: Any
    before: Document | None
    after: list[Document] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.collection}[{self.document!r}]: {self.text}"

    def apply(self, database: Database[Document]) -> None:
        """Write it; fields that stay as they are are not written, as others may change them."""
        collection = database[self.collection]
        ids = [after["_id"] for after in self.after]
        if self.before is not None and self.before["_id"] not in ids:
            collection.delete_one({"_id": self.before["_id"]})
        for after in self.after:
            if self.before is not None and after["_id"] == self.before["_id"]:
                if change := _difference(self.before, after):
                    collection.update_one({"_id": after["_id"]}, change)
            else:
                collection.insert_one(after)

    def undo(self, database: Database[Document]) -> None:
        """Put right what was changed, as far as nobody else has written it meanwhile."""
        collection = database[self.collection]
        for after in self.after:
            if self.before is None or after["_id"] != self.before["_id"]:
                collection.delete_one({"_id": after["_id"]})
        if self.before is None:
            return
        there = collection.find_one({"_id": self.before["_id"]})
        if there is None:
            collection.insert_one(self.before)
        elif self.after and (change := _difference(self.after[0], self.before)):
            collection.update_one({"_id": self.before["_id"]}, change)


def _difference(one: Document, other: Document) -> dict[str, Any]:
    new = {k: v for k, v in other.items() if k not in one or not _same(one[k], v)}
    gone = {k: "" for k in one if k not in other}
    return {name: what for name, what in (("$set", new), ("$unset", gone)) if what}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


def draw(
    rng: random.Random, collection: str, documents: list[Document], search: str | None
) -> Mutation:
    """Draw a mutation of one of `documents`, or of the collection that they are of.

    Parameters
    ----------
    search : str, optional
        Id of a search that runs, for which a foreign document may pretend to wait.
    """
    for _ in range(100):
        kind = rng.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
        before = copy.deepcopy(rng.choice(documents)) if documents else None
        if before is None or kind == "foreign":
            return _foreign(rng, collection, search, before)
        try:
            place, text, value, after = KINDS[kind][0](rng, copy.deepcopy(before))
        except NotApplicable:
            continue
        return Mutation(collection, before["_id"], place, kind, text, value, before, after)
    raise AssertionError("nothing can be drawn")


#: Fields that hold much, and so are drawn more often than others.
_OFTEN = {"result": 6, "error": 3, "spec": 3, "history": 2}

# -- kinds ---------------------------------------------------------------------------------

Drawn = tuple[Place, str, Any, list[Document]]


def _places(value: Any, place: Place = ()) -> list[Place]:
    """Return all places in `value`, but for its id."""
    if isinstance(value, dict):
        steps: list[Any] = [key for key in value if (*place, key) != ("_id",)]
    elif isinstance(value, list):
        steps = list(range(min(len(value), 20)))
    else:
        steps = []
    return [p for step in steps for p in ((*place, step), *_places(value[step], (*place, step)))]


def _place(rng: random.Random, document: Document, *kinds: type) -> Place:
    """Draw a place that holds one of `kinds`, or anything."""
    found = [p for p in _places(document) if not kinds or isinstance(_at(document, p), kinds)]
    if not found:
        raise NotApplicable
    tops = sorted({str(p[0]) for p in found})
    top = rng.choices(tops, [_OFTEN.get(top, 1) for top in tops])[0]
    return rng.choice([p for p in found if str(p[0]) == top])


def _at(document: Any, place: Place) -> Any:
    for step in place:
        document = document[step]
    return document


def _shown(place: Place) -> str:
    return ".".join(map(str, place))


def _set(rng: random.Random, document: Document) -> Drawn:
    place, name = _place(rng, document), rng.choice(list(VALUES))
    if _same(_at(document, place), VALUES[name]):
        raise NotApplicable
    _at(document, place[:-1])[place[-1]] = copy.deepcopy(VALUES[name])
    return place, f"{_shown(place)} set to {name}", VALUES[name], [document]


def _unset(rng: random.Random, document: Document) -> Drawn:
    place = _place(rng, document)
    del _at(document, place[:-1])[place[-1]]
    return place, f"{_shown(place)} removed", None, [document]


def _rename(rng: random.Random, document: Document) -> Drawn:
    place = _place(rng, document)
    if isinstance(place[-1], int):
        raise NotApplicable
    holder = _at(document, place[:-1])
    holder[f"{place[-1]}x"] = holder.pop(place[-1])
    return place, f"{_shown(place)} renamed to {place[-1]}x", None, [document]


def _insert(rng: random.Random, document: Document) -> Drawn:
    place, name = _place(rng, document, list), rng.choice(list(VALUES))
    values = _at(document, place)
    at = rng.randint(0, len(values))
    values.insert(at, copy.deepcopy(VALUES[name]))
    return place, f"{name} inserted into {_shown(place)} at {at}", VALUES[name], [document]


def _repeat(rng: random.Random, document: Document) -> Drawn:
    place = _place(rng, document, list)
    values = _at(document, place)
    if not values:
        raise NotApplicable
    at = rng.randrange(len(values))
    values.insert(at, copy.deepcopy(values[at]))
    return place, f"element {at} of {_shown(place)} repeated", None, [document]


def _reverse(rng: random.Random, document: Document) -> Drawn:
    place = _place(rng, document, list)
    values = _at(document, place)
    if _same(values, values[::-1]):
        raise NotApplicable
    values.reverse()
    return place, f"{_shown(place)} reversed", None, [document]


def _state(rng: random.Random, document: Document) -> Drawn:
    state = rng.choice(STATES)
    if document.get("state", state) == state:
        raise NotApplicable
    document["state"] = state
    return ("state",), f"state set to {state}", state, [document]


def _schema(rng: random.Random, document: Document) -> Drawn:
    if "v" not in document:
        raise NotApplicable
    name = rng.choice(list(NUMBERS_OF_SCHEMA))
    document["v"] = NUMBERS_OF_SCHEMA[name]
    return ("v",), f"v set to {name}", NUMBERS_OF_SCHEMA[name], [document]


def _flip(rng: random.Random, document: Document) -> Drawn:
    place = _place(rng, document, bytes, str)
    value = _at(document, place)
    if not value:
        raise NotApplicable
    at = rng.randrange(len(value))
    if isinstance(value, bytes):
        other: Any = value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
    else:
        other = value[:at] + rng.choice(string.printable) + value[at + 1 :]
    if other == value:
        raise NotApplicable
    _at(document, place[:-1])[place[-1]] = other
    return place, f"{_shown(place)} changed at {at}, to {other[at : at + 1]!r}", other, [document]


def _remove(rng: random.Random, document: Document) -> Drawn:
    return (), "the document removed", None, []


def _rekey(rng: random.Random, document: Document) -> Drawn:
    was, name = document["_id"], rng.choice(list(_OTHER_IDS))
    return ("_id",), f"_id changed to {name}", None, [{**document, "_id": _OTHER_IDS[name](was)}]


def _copy(rng: random.Random, document: Document) -> Drawn:
    name = rng.choice(list(_OTHER_IDS))
    other = {**copy.deepcopy(document), "_id": _OTHER_IDS[name](document["_id"])}
    return ("_id",), f"a copy of the document, its _id {name}", None, [document, other]


_OTHER_IDS: dict[str, Any] = {
    "one letter more": lambda was: f"{was}x",
    "a text": lambda was: "zzz",
    "a number": lambda was: 5,
    "an ObjectId": lambda was: ObjectId("0123456789ab0123456789ab"),
    "a dict": lambda was: {"zzz": 1},
}

KINDS: dict[str, tuple[Any, float]] = {
    "set": (_set, 8),
    "unset": (_unset, 3),
    "rename": (_rename, 1),
    "insert": (_insert, 1),
    "repeat": (_repeat, 0.5),
    "reverse": (_reverse, 0.5),
    "state": (_state, 1.5),
    "schema": (_schema, 1),
    "flip": (_flip, 1.5),
    "remove": (_remove, 0.5),
    "rekey": (_rekey, 0.5),
    "copy": (_copy, 0.5),
    "foreign": (None, 1),
}


def _foreign(
    rng: random.Random, collection: str, search: str | None, like: Document | None
) -> Mutation:
    """Insert a document that is none of ours, with some of the fields that ours have."""
    names = [*(name for name in like or () if name != "_id"), "zzz"]
    own = {name: copy.deepcopy(rng.choice(list(VALUES.values()))) for name in names}
    shown = rng.choice(("a key", "an ObjectId"))
    own["_id"] = f"u1:{rng.randbytes(32).hex()}:zzz" if shown == "a key" else ObjectId()
    for name in rng.sample(names, len(names) // 2):
        own.pop(name, None)
    told = f"a foreign document, its _id {shown}, of {sorted(map(str, own))}"
    if collection == "units" and like is not None and rng.random() < 0.6:
        waiting = {name: like[name] for name in ("kind", "call_of", "run") if name in like}
        waits_as = like.get("wanted_by") or [search]
        own |= {**waiting, "wanted_by": waits_as, "state": rng.choice(STATES)}
        told += f", wanted by the search, {own['state']}"
    if collection == "units" and like is not None and rng.random() < 0.3:
        own["key"] = like.get("key")
        told += ", with the key of a unit"
    return Mutation(collection, None, (), "foreign", told, None, None, [own])
