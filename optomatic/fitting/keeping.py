"""How a search is kept: in its attributes, in copies and in pickles."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from optomatic.errors import guarded
from optomatic.fitting.credentials import without_credentials
from optomatic.keys.travelling import is_sending
from optomatic.plan.candidates.replayed import Replayed


class KeepsAddress:
    """An object with ``db``: copies of it know the whole address, pickles that are kept do not."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep credentials in `db` from being printed; all else is stored untouched."""
        super().__setattr__(name, guarded(value) if name == "db" else value)

    def _is_done(self) -> bool:
        """Tell whether a pickle is to be kept, not on its way to where `db` has to be reached."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled.

        For workers, without any address.  What is done is kept and passed on, so it goes without
        credentials; a search that has not begun yet is on its way to a process where it has to
        reach its database.
        """
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]  # a dict
        if is_sending():
            state["db"] = None
        elif self._is_done():
            state = {name: without_credentials(value) for name, value in state.items()}
        return state

    def __copy__(self) -> Any:
        """Return a shallow copy: it stays in this process, with all that it knows."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return a deep copy: it stays in this process, with all that it knows."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made


class Kept(KeepsAddress):
    """An estimator with ``db`` and spaces: stands before scikit-learn's base class."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep also what an iterator gives."""
        # A Replayed stays the object that it is: clone() looks whether it does.
        if name in ("param_grid", "param_distributions") and isinstance(value, Iterator):
            value = Replayed(value)
        super().__setattr__(name, value)

    def _is_done(self) -> bool:
        return hasattr(self, "cv_results_")
