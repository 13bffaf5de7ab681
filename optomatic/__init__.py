"""Hyper-parameter search for scikit-learn that remembers every score in MongoDB."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from optomatic import _registration

if TYPE_CHECKING:
    from optomatic.attaching import attach as attach
    from optomatic.function_search import MongoSearch as MongoSearch
    from optomatic.halving import MongoHalvingGridSearchCV as MongoHalvingGridSearchCV
    from optomatic.halving import MongoHalvingRandomSearchCV as MongoHalvingRandomSearchCV
    from optomatic.overview import check_database as check_database
    from optomatic.overview import running as running
    from optomatic.overview import searches as searches
    from optomatic.overview import workers as workers
    from optomatic.plan.course.racing import Racing as Racing
    from optomatic.removing import remove as remove
    from optomatic.search import MongoSearchCV as MongoSearchCV

__all__ = [
    "MongoHalvingGridSearchCV",
    "MongoHalvingRandomSearchCV",
    "MongoSearch",
    "MongoSearchCV",
    "Racing",
    "attach",
    "check_database",
    "remove",
    "running",
    "searches",
    "workers",
]
__version__ = "0.1.0"

_HOMES = {
    "MongoHalvingGridSearchCV": "optomatic.halving",
    "MongoHalvingRandomSearchCV": "optomatic.halving",
    "MongoSearch": "optomatic.function_search",
    "MongoSearchCV": "optomatic.search",
    "Racing": "optomatic.plan.course.racing",
    "attach": "optomatic.attaching",
    "check_database": "optomatic.overview",
    "remove": "optomatic.removing",
    "running": "optomatic.overview",
    "searches": "optomatic.overview",
    "workers": "optomatic.overview",
}


def __getattr__(name: str) -> Any:
    """Import a search when it is asked for: workers and the watcher start without it."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_registration.register()
