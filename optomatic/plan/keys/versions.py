"""Which distribution a module belongs to, and which version of it is installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from importlib import metadata

#: Module name -> (distribution, version), or None for code that is not installed: scripts,
#: notebooks, editable installs.
Versions = Callable[[str], tuple[str, str] | None]

#: What scikit-learn users meet always; spares reading the files of all distributions.
_KNOWN = {
    "sklearn": "scikit-learn",
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "joblib": "joblib",
}
#: Numbers of a version that tell: patch releases of these keep their numbers.
_MINOR_IS_ENOUGH = ("numpy", "scipy", "pandas")


def installed_versions(module: str) -> tuple[str, str] | None:
    """Return distribution and version of `module` if it is installed, else None.

    The standard library is ``("", "")``: it comes with Python.
    """
    return _installed(module.partition(".")[0])


@cache
def _installed(top: str) -> tuple[str, str] | None:
    if top in sys.stdlib_module_names:
        return None if top == "__main__" else ("", "")
    name = _KNOWN.get(top) or next(iter(_distributions().get(top, ())), None)
    if name is None:
        return None
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    # Our own code scores by scikit-learn's; to walk it would only lead to locks and sockets.
    if _is_editable(found) and name != "optomatic":
        return None
    version = found.version
    if name in _MINOR_IS_ENOUGH:
        version = ".".join(version.split(".")[:2])
    return name, version


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _is_editable(distribution: metadata.Distribution) -> bool:
    """Tell whether the code may change while the version stays (PEP 610)."""
    origin = distribution.read_text("direct_url.json")
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))
