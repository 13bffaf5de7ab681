"""joblib's own installed tests, made to test the backend ``optomatic``.

Nothing of them is copied.  Their lists of backends are built when they are imported and stand in
the marks of their tests, so those marks are changed: where a list names joblib's own process
backends, it names ours instead.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from joblib.parallel import LokyBackend, MultiprocessingBackend

from optomatic.joblib_backend.backend import OptomaticBackend

NAME = "optomatic"
_PROCESSES = ("loky", "multiprocessing", "spawn", NAME)
#: Parameters that name a backend.
_ONE = ("backend",)
_PAIRS = ("parent_backend", "child_backend", "outer_backend", "inner_backend")


def joblibs_tests(module: str, exceptions: dict[str, str], **others: list[Any]) -> dict[str, Any]:
    """Return the tests of an installed module by name, run with our backend.

    Parameters
    ----------
    exceptions : dict of str to str
        Reasons by test, as ``name`` or ``name[part of an id]``.
    **others : list
        By name of a test: values of its mark that stand in for those that it has.
    """
    loaded = importlib.import_module(module)
    if hasattr(loaded, "PROCESS_BACKENDS"):
        loaded.PROCESS_BACKENDS = [NAME]
        loaded.PARALLEL_BACKENDS = [NAME, "threading"]
        loaded.ALL_VALID_BACKENDS = [None, NAME, OptomaticBackend()]
    found = {name: test for name, test in vars(loaded).items() if name.startswith("test_")}
    for name, test in found.items():
        marks = getattr(test, "pytestmark", [])
        test.pytestmark = [_changed(mark, others.get(name)) for mark in marks]
        if name in exceptions:
            test.pytestmark.append(pytest.mark.skip(reason=exceptions[name]).mark)
    return found


def _changed(mark: pytest.Mark, values: list[Any] | None) -> pytest.Mark:
    if mark.name != "parametrize":
        return mark
    names = mark.args[0]
    if values is not None and "backend" in names:
        return pytest.mark.parametrize(names, values).mark
    if names in _ONE:
        return pytest.mark.parametrize(names, _ours(list(mark.args[1]))).mark
    if names in _PAIRS:
        return pytest.mark.parametrize(names, [NAME, "threading"]).mark
    return mark


def _ours(values: list[Any]) -> list[Any]:
    """Return our backend in each of the ways in which `values` name one of processes."""
    found: list[Any] = []
    if None in values:
        found.append(None)
    if any(value in _PROCESSES for value in values if isinstance(value, str)):
        found.append(NAME)
    if any(isinstance(value, LokyBackend | MultiprocessingBackend) for value in values):
        found.append(OptomaticBackend())
    # Tests of backends that have nothing to do with processes stay as they are.
    return found or values
