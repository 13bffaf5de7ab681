"""Which warnings are shown, as the process that searches has it, in the children that it starts.

A child is a process of its own, so ``warnings.filterwarnings("ignore")`` of a script would not
reach it.  scikit-learn hands its filters to joblib's workers in the same way.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: Action, pattern of the text, category as ``module:name``, pattern of the module, line; as JSON.
Filter = Sequence[Any]


def filters_here() -> list[Filter]:
    """Return the filters of the calling thread, those that are asked first at the head."""
    return [
        [action, _pattern(text), f"{kind.__module__}:{kind.__qualname__}", _pattern(module), line]
        for action, text, kind, module, line in _filters()
        if isinstance(kind, type)
    ]


def _filters() -> Sequence[tuple[Any, ...]]:
    # Where each context has filters of its own (free-threaded Python) the module's list is none.
    return tuple(getattr(warnings, "_get_filters", lambda: warnings.filters)())


def _pattern(given: str | re.Pattern[str] | None) -> str:
    return given.pattern if isinstance(given, re.Pattern) else given or ""


@contextmanager
def filtered(filters: Sequence[Filter] | None) -> Iterator[None]:
    """Show the warnings that `filters` let through, as long as the context lasts.

    None changes nothing.  A category of a module that is not loaded here is passed over: to
    import it could do anything.
    """
    if filters is None:
        yield
        return
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for action, text, kind, module, line in filters:
            category = _category(kind)
            if category is not None:
                warnings.filterwarnings(action, text, category, module, line, append=True)
        yield


def _category(name: str) -> type[Warning] | None:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None
