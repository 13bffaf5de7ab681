"""Hyper-parameter search for scikit-learn that remembers every score in MongoDB."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from joblib import register_parallel_backend

if TYPE_CHECKING:
    from optomatic.candidates.racing import Racing as Racing
    from optomatic.search.attached import attach as attach
    from optomatic.search.database import check_database as check_database
    from optomatic.search.database import remove as remove
    from optomatic.search.database import running as running
    from optomatic.search.database import searches as searches
    from optomatic.search.database import workers as workers
    from optomatic.search.function_search import MongoSearch as MongoSearch
    from optomatic.search.grid_search import MongoSearchCV as MongoSearchCV
    from optomatic.search.halving import MongoHalvingGridSearchCV as MongoHalvingGridSearchCV
    from optomatic.search.halving import MongoHalvingRandomSearchCV as MongoHalvingRandomSearchCV
    from optomatic.versions import show_versions as show_versions

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
    "show_versions",
    "workers",
]
__version__ = "0.1.0"

_HOMES = {
    "MongoHalvingGridSearchCV": "optomatic.search.halving",
    "MongoHalvingRandomSearchCV": "optomatic.search.halving",
    "MongoSearch": "optomatic.search.function_search",
    "MongoSearchCV": "optomatic.search.grid_search",
    "Racing": "optomatic.candidates.racing",
    "attach": "optomatic.search.attached",
    "check_database": "optomatic.search.database",
    "remove": "optomatic.search.database",
    "running": "optomatic.search.database",
    "searches": "optomatic.search.database",
    "show_versions": "optomatic.versions",
    "workers": "optomatic.search.database",
}


def __getattr__(name: str) -> Any:
    """Import a search at its first use: workers start without it."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _joblib_backend(*args: Any, **kwargs: Any) -> Any:
    """Return joblib's backend; import it at its first use."""
    from optomatic.joblib_backend.backend import OptomaticBackend

    return OptomaticBackend(*args, **kwargs)


register_parallel_backend("optomatic", _joblib_backend)
