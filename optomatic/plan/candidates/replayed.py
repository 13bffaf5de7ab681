"""An iterator as a space: gone through once, given as often as it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any


class Replayed:
    """What an iterator gives, as often as it is asked for.

    An iterator can be gone through once and cannot be copied.  So that a search over one can
    be fitted twice, cloned and pickled, what it gives is remembered.  Copies are this object
    itself.  It may be gone through in several threads at once; each item is fetched when it
    is first needed, so the iterator may be endless.  A pickle holds what was fetched and all
    that is left.
    """

    __module__ = "optomatic.search"  # where pickles of searches look for it, wherever it stands

    def __init__(self, items: Iterable[Any], shown: str | None = None) -> None:
        self._rest = iter(items)
        self._shown = shown or repr(items)
        # By this name errors call it.
        self.__qualname__ = getattr(items, "__qualname__", type(items).__qualname__)
        self._seen: list[Any] = []
        # Again, as a generator may come to ask for itself.
        self._lock = threading.RLock()

    def __iter__(self) -> Iterator[Any]:
        for n in count():
            with self._lock:
                if n == len(self._seen):
                    try:
                        self._seen.append(next(self._rest))
                    except StopIteration:
                        return
            yield self._seen[n]

    @property
    def endless(self) -> bool:
        """Whether the iterator says that it never ends."""
        return getattr(self._rest, "endless", False) is True

    def __deepcopy__(self, memo: Any) -> Replayed:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Replayed, (list(self), self._shown)

    def __repr__(self) -> str:
        return self._shown
