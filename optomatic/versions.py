"""The versions that a report of a bug needs."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from packaging.requirements import Requirement

_NAME = "optomatic"


def show_versions() -> None:
    """Print the versions of Python, of the machine, and of all that optomatic uses.

    Packages of extras that are not installed are shown as ``None``, as
    :func:`sklearn.show_versions` does.

    Examples
    --------
    >>> import optomatic
    >>> optomatic.show_versions()  # doctest: +SKIP
    """
    system = {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "machine": platform.platform(),
    }
    print("System:")
    for name, value in system.items():
        print(f"{name:>10}: {value}")
    print("\nPackages:")
    names = [_NAME, "pip", *_required()]
    width = max(map(len, names))
    for name in names:
        print(f"{name:>{width}}: {_version(name)}")


def _required() -> list[str]:
    """Return the distributions that optomatic requires, those of the extras for users too."""
    names = []
    for text in metadata.requires(_NAME) or ():
        required = Requirement(text)
        extras = ("", "embedded", "optuna", "plot", "dashboard", "export")
        marker = required.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            names.append(required.name)
    return [name for name in dict.fromkeys(names) if name != _NAME]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
