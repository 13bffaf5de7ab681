"""Hyper-parameter search for scikit-learn that remembers every score in MongoDB."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optomatic.function_search import MongoSearch as MongoSearch
    from optomatic.search import MongoSearchCV as MongoSearchCV

__all__ = ["MongoSearch", "MongoSearchCV"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the search when it is asked for: workers and the watcher start without it."""
    if name == "MongoSearchCV":
        from optomatic.search import MongoSearchCV

        return MongoSearchCV
    if name == "MongoSearch":
        from optomatic.function_search import MongoSearch

        return MongoSearch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
