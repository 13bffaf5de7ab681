"""Parts of arguments that calls of this process use: in the store until it ends.

They are shared by content with whatever else uses them (:mod:`optomatic.store.holding`), so the
store is told who needs them.  Others give up what this process holds once they find it gone, or
have not seen it for a day; so it holds nothing while nobody knows that it lives, and under a new
name whenever it was silent.
"""

from __future__ import annotations

import threading

from optomatic.errors import StoreUnavailable
from optomatic.records import Part
from optomatic.store.bundles import Bundles
from optomatic.store.calls import holder_name


class HeldParts:
    """What the process `client` holds.  Safe to share among threads."""

    def __init__(self, bundles: Bundles, client: str) -> None:
        self._bundles = bundles
        self._client = client
        self._lock = threading.Lock()
        self._number = 0
        self._holder = ""
        #: The names under which something may be held.
        self._used: list[str] = []
        self._held: dict[str, str] = {}  # part -> under which name

    def begin(self) -> None:
        """Take another name: the process is known to live."""
        with self._lock:
            self._number += 1
            self._holder = holder_name(self._client, self._number)

    def end(self) -> None:
        """Take note that the process is silent from now on: what it holds, it may lose."""
        with self._lock:
            self._holder = ""

    def hold(self, part: Part, *, own: bool = False) -> None:
        """Have a part in the store until the process ends; upload it unless it is there.

        Parameters
        ----------
        part : Part
        own : bool
            It is of one call only, so it is neither there yet nor asked for again.

        Raises
        ------
        StoreError
            Also if nobody knows that this process lives.
        """
        holder = self._in_use()
        if own:
            self._bundles.put(part, holder=holder)
        elif not self.holds(part.sha):
            if self._bundles.missing([part.sha], holder):
                self._bundles.put(part, holder=holder)
            self._held[part.sha] = holder

    def _in_use(self) -> str:
        with self._lock:
            if not self._holder:
                raise StoreUnavailable(
                    "What makes calls of joblib in this process ended while one was packed. It "
                    "was not queued, and none of its arguments is stored. Make it again."
                )
            if self._holder not in self._used:
                self._used.append(self._holder)
            return self._holder

    def holds(self, sha: str) -> bool:
        """Tell whether a part is in the store, and stays."""
        return bool(self._holder) and self._held.get(sha) == self._holder

    def any(self) -> bool:
        """Tell whether anything may be held."""
        return bool(self._used)

    def let_go(self) -> None:
        """Hold nothing any more; what nobody else needs is removed."""
        self._bundles.let_go(self._used)
