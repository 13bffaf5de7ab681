"""The exceptions and warnings of optomatic.

Each text says what happened, what it means for the data, and what to do next.  No text holds a
password.
"""

from __future__ import annotations

import os
import sys
import warnings
from pickle import PicklingError
from types import FrameType, TracebackType


class OptomaticError(Exception):
    """Base of all exceptions of optomatic."""


class StoreError(OptomaticError):
    """The database, or the way to it, does not work."""


class StoreURIError(StoreError, ValueError):
    """The address of the store is invalid."""


class StoreUnavailable(StoreError, ConnectionError):
    """The store does not answer, or not in time."""


class StoreRefused(StoreError, PermissionError):
    """The server refuses the credentials, or lacks rights for the user."""


class StoreIncompatible(StoreError):
    """The server cannot be used, or holds a newer format."""


class StoreFull(StoreError, OSError):
    """The server has no space left."""


class RecordTooLarge(StoreError, ValueError):
    """A record is larger than a document of MongoDB may be."""


class BundleDamaged(StoreError):
    """Stored bytes do not match their hash, or some of them are missing."""


class ServerMissing(OptomaticError, FileNotFoundError):
    """There is no mongod for the private server."""


class ServerFailed(OptomaticError, RuntimeError):
    """The private mongod did not start, or ended."""


class FolderRefused(OptomaticError, PermissionError):
    """A folder cannot be used, or optomatic did not make it."""


class CacheFull(OptomaticError, OSError):
    """The disk of the workers' cache has no space left.

    ``where`` is a short reason, with the folder and its free space.
    """

    def __init__(self, text: str, where: str = "") -> None:
        super().__init__(text)
        self.where = where


class DefinitionError(OptomaticError, ValueError):
    """A search definition file (``NAME.optomatic.toml``) cannot be read, written, or used here."""


class NotShippable(OptomaticError, TypeError, PicklingError):
    """An object cannot be pickled, so workers cannot have it; ``cause`` is the short reason."""

    def __init__(self, text: str, cause: str | None = None) -> None:
        super().__init__(text)
        self.cause = cause or text


class OtherCode(OptomaticError, RuntimeError):
    """Workers of this process have loaded something else than was sent."""


class SearchCancelled(OptomaticError, RuntimeError):
    """The search was withdrawn while it was waiting."""


class SearchRunning(OptomaticError, RuntimeError):
    """A search that runs cannot be removed."""


class FitTimeout(OptomaticError, TimeoutError):
    """A unit took longer than the search's ``fit_timeout``, and was ended."""


class MemoryLimit(OptomaticError, MemoryError):
    """A unit took more memory than the search's ``memory_limit``, and was ended."""


class GeneratorFailed(OptomaticError, ValueError):
    """A generator raised, or gave something that is no candidate."""


class FilterFailed(OptomaticError, ValueError):
    """A filter raised, or its answers cannot be read."""


class UnitFailed(OptomaticError, RuntimeError):
    """A unit failed with an exception whose type cannot be imported here."""


class CallFailed(OptomaticError, RuntimeError):
    """A call of joblib raised an exception that cannot be unpickled here."""


class CallLost(OptomaticError, RuntimeError):
    """A call of joblib ended each of its workers, or was removed."""


class RemoteTraceback(Exception):
    """The cause of an exception from a worker: its traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class KeyNotCertain(UserWarning):
    """An object has no certain key: it is scored for this search only."""


class UnitsDied(UserWarning):
    """Some units killed their workers, and were given up."""


class NoWorkers(UserWarning):
    """``n_jobs=0`` waits for standalone workers, and none has been seen."""


class NoProgress(UserWarning):
    """For 10 s no worker has made progress on the units of a search."""


class RecordsInvalid(UserWarning):
    """Stored records cannot be read: they are kept, and their units are scored again."""


class WorkersRefuse(UserWarning):
    """Some workers have other code or versions than a search, and skip it."""


class RandomnessUnseeded(UserWarning):
    """The splitter has no seed: each fit draws other splits, and reuses nothing."""


#: Characters of the name of a search, at most.
LONGEST_NAME = 1_000
_SHOWN = 200


def shown(value: object) -> str:
    """Return the ``repr`` of a value of the user, cut short, without ever raising.

    >>> shown("x" * 1_000)[-9:], shown(10**5_000)
    ('xxxxxx...', '<int>')
    """
    try:
        text = repr(value)
    except Exception:  # of user code, or of an int with too many digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


#: Packages between user code and a warning: joblib, if scikit-learn fits a search inside another.
_BETWEEN = ("optomatic", "sklearn", "joblib")
#: This package, and where besides pymongo its calls lead that users did not write.
_OURS, _PYTHON = "optomatic", os.path.dirname(os.__file__) + os.sep
#: Errors that are raised on purpose.  Any other that comes from here is a defect.
_PLANNED = (OptomaticError, ValueError, TypeError, OverflowError, ImportError, KeyboardInterrupt)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of user code that led here."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_between(frame):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


def _is_between(frame: FrameType) -> bool:
    return _package(frame) in _BETWEEN


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


class BriefTraceback:
    """Shorten the traceback of an error that leaves a public method.

    Of what this package calls within itself the first frame stays, and the one that raised.
    Frames of user code and of scikit-learn all stay.  A defect keeps every frame for its report.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, first: object) -> None:
        if error is None or _is_defect(error):
            return
        _shorten(error, keep_first=True)
        seen = {id(error)}
        while error := error.__cause__ or (
            None if error.__suppress_context__ else error.__context__
        ):
            if id(error) in seen:
                return
            seen.add(id(error))
            _shorten(error, keep_first=False)


def _is_defect(error: BaseException) -> bool:
    """Return whether nobody meant to raise an error here: it was not raised `from` another."""
    places = _places(error)
    planned = error.__cause__ is not None or isinstance(error, _PLANNED)
    return bool(places) and places[-1][1] and not planned


def _shorten(error: BaseException, *, keep_first: bool) -> None:
    places = _places(error)
    if not places:
        return
    last = len(places) - 1
    kept = [
        place
        for n, (place, inside) in enumerate(places)
        if not inside or n == last or (n == 0 and keep_first)
    ]
    for place, after in zip(kept, [*kept[1:], None], strict=True):
        place.tb_next = after
    error.__traceback__ = kept[0]


def _places(error: BaseException) -> list[tuple[TracebackType, bool]]:
    """Return each place of a traceback, and whether it is inside of this package or its calls."""
    found: list[tuple[TracebackType, bool]] = []
    inside, place = False, error.__traceback__
    while place is not None:
        package, file = _package(place.tb_frame), place.tb_frame.f_code.co_filename
        called = package == "pymongo" or (file.startswith(_PYTHON) and "-packages" not in file)
        inside = package == _OURS or (inside and called)
        found.append((place, inside))
        place = place.tb_next
    return found
