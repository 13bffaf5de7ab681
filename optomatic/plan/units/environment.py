"""Which versions a worker must match to load what a client packed.

Closures pickled on one Python minor kill the interpreter of another, so these are
compared before anything is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata

#: How many leading numbers of a version must be equal; of all others, the whole version.
_PRECISION = {"cloudpickle": 1, "numpy": 2, "scipy": 2, "pandas": 2}
#: What every bundle depends on.
_ALWAYS = ("cloudpickle", "scikit-learn", "numpy")


def environment(versions: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the versions that a worker must match.

    Parameters
    ----------
    versions : mapping of str to str, optional
        Distributions that the work depends on besides, as its key names them.

    Returns
    -------
    dict of str to str
        ``python`` (minor), ``cloudpickle`` (major), ``numpy`` (major.minor),
        ``scikit-learn`` and all others (whole).
    """
    names = {*_ALWAYS, *(versions or {})} - {"python"}
    found = {name: matched_version(name) for name in sorted(names)}
    return {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", **found}


@cache
def matched_version(distribution: str) -> str:
    """Return as much of an installed version as must match, or ``""`` if there is none."""
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
    numbers = _PRECISION.get(distribution)
    return version if numbers is None else ".".join(version.split(".")[:numbers])
