"""Attributes, copies and pickles of a search, without the credentials of databases."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from optomatic import _sklearn
from optomatic._uri import Address, NoAddress, guarded, masked
from optomatic.candidates.grids import Replayed
from optomatic.keys.environment import is_sending

# A fitted search without the credentials of databases.
#
# They stand in its own ``db`` and in that of every search inside of it: in the estimator, in
# candidates, in what was refitted.


_PLAIN = frozenset({int, float, bool, str, type(None), np.float64, np.int64, np.str_})


def without_credentials(value: Any) -> Any:
    """Return `value`, or where credentials are in it, a copy without them.

    Looks into mappings, lists, tuples, arrays of objects and the params of estimators.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Address | NoAddress):
        return Address(masked(value))
    if type(value) is dict:
        return _of_a_dict(value)
    if type(value) in (list, tuple):
        items = [without_credentials(item) for item in value]
        return type(value)(items) if _changed(items, value) else value
    if isinstance(value, np.ndarray) and value.dtype == object:
        return _of_an_array(value)
    if _sklearn.uses_own_score(value):
        return _sklearn.own_score_of(without_credentials(_sklearn.estimator_of(value)), value)
    if hasattr(value, "get_params") and not isinstance(value, type):
        return _of_an_estimator(value)
    return value


def _changed(new: Any, old: Any) -> bool:
    return any(a is not b for a, b in zip(new, old, strict=True))


def _of_a_dict(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    items = {name: without_credentials(item) for name, item in value.items()}
    return items if _changed(items.values(), value.values()) else value


def _of_an_array(value: Any) -> Any:
    """The same array where nothing changes; masks and shapes stay."""
    old = np.ma.getdata(value).reshape(-1)
    new = [without_credentials(item) for item in old]
    if not _changed(new, old):
        return value
    made = copy.copy(value)
    np.ma.getdata(made).reshape(-1)[:] = new
    return made


def _of_an_estimator(value: Any) -> Any:
    params = value.get_params(deep=False)
    new = {name: without_credentials(held) for name, held in params.items()}
    changed = {name: held for name, held in new.items() if held is not params[name]}
    if not changed:
        return value
    # Fitted attributes stay; a search that is fitted looks after its own when it is pickled.
    made = copy.copy(value)
    for name, held in changed.items():
        setattr(made, name, held)
    return made


class KeepsAddress:
    """An object with ``db``: copies of it know the whole address, pickles that are kept do not."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep credentials in `db` from being printed; all else is stored untouched."""
        super().__setattr__(name, guarded(value) if name == "db" else value)

    def _keep(self, given: Mapping[str, Any]) -> None:
        """Set the arguments of the constructor, its ``locals()``, and nothing else."""
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _is_done(self) -> bool:
        """Return whether a pickle is to be kept, not on its way to where `db` has to be reached."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled.

        For workers it has no address.  A finished search is kept and passed on, so it goes without
        credentials.  A search that has not begun is on its way to a process where it has to reach
        its database.
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
