"""What optomatic raises.

::

    OptomaticError
    ├── StoreError                        the database, or the way to it
    │   ├── StoreURIError       (ValueError)       the address cannot be one
    │   ├── StoreUnavailable    (ConnectionError)  nobody answers, or not in time
    │   ├── StoreRefused        (PermissionError)  credentials or rights
    │   ├── StoreIncompatible                      not a MongoDB we can use; unknown schema
    │   ├── StoreFull           (OSError)          no space left for the server
    │   ├── RecordTooLarge      (ValueError)       over 16 MB, measured before it is sent
    │   └── BundleDamaged                          bytes do not match their hash
    ├── ServerMissing           (FileNotFoundError) no mongod for the embedded server
    ├── ServerFailed            (RuntimeError)     the embedded mongod did not start, or died
    ├── FolderRefused           (PermissionError)  a folder is not ours, or cannot be used
    ├── CacheFull               (OSError)          no space left for what local workers load
    ├── DefinitionError         (ValueError)       a search definition file cannot be used
    ├── NotShippable            (TypeError, PicklingError)  cannot be pickled for workers
    ├── OtherCode               (RuntimeError)     workers load something else than they were sent
    ├── SearchCancelled         (RuntimeError)     somebody withdrew the search
    ├── SearchRunning           (RuntimeError)     a search that runs cannot be removed
    ├── FitTimeout              (TimeoutError)     a unit took longer than fit_timeout
    ├── MemoryLimit             (MemoryError)      a unit took more than memory_limit
    ├── GeneratorFailed         (ValueError)       a generator raised, or gave no candidates
    ├── FilterFailed            (ValueError)       a filter raised, or gave no answers
    ├── UnitFailed              (RuntimeError)     error_score="raise", original type unknown
    ├── CallFailed              (RuntimeError)     a call raised what cannot be had here
    └── CallLost                (RuntimeError)     a call ended its workers, or was removed

    KeyNotCertain               (UserWarning)      scored for this search only, not reused
    UnitsDied                   (UserWarning)      units that killed their workers
    NoWorkers                   (UserWarning)      n_jobs=0 and nobody is there
    NoProgress                  (UserWarning)      nobody works on what is waited for
    RecordsInvalid              (UserWarning)      stored records that cannot be read
    WorkersRefuse               (UserWarning)      some workers lack what a search was made with
    RandomnessUnseeded          (UserWarning)      the splits are one draw, and nothing is reused

Each text says what happened, what it means for the data, and what to do next; no text
ever holds a password (see :func:`redact`).
"""

from __future__ import annotations

import sys
import warnings
from pickle import PicklingError
from types import FrameType


class OptomaticError(Exception):
    """Base of everything that optomatic raises by itself."""


class StoreError(OptomaticError):
    """Something is wrong with the database or the way to it."""


class StoreURIError(StoreError, ValueError):
    """The address of the store cannot be one."""


class StoreUnavailable(StoreError, ConnectionError):
    """Nobody answers at the store's address, or not in time."""


class StoreRefused(StoreError, PermissionError):
    """The server answers and says no: credentials or rights."""


class StoreIncompatible(StoreError):
    """The server is not one that can be used, or holds a newer format."""


class StoreFull(StoreError, OSError):
    """The server has no space left."""


class RecordTooLarge(StoreError, ValueError):
    """A record is over what MongoDB stores in one document."""


class BundleDamaged(StoreError):
    """Stored bytes do not match their hash, or some of them are missing."""


class ServerMissing(OptomaticError, FileNotFoundError):
    """There is no mongod for the embedded server."""


class ServerFailed(OptomaticError, RuntimeError):
    """The embedded mongod did not start, or ended."""


class FolderRefused(OptomaticError, PermissionError):
    """A folder cannot be used for the files of this program, or is not its own."""


class CacheFull(OptomaticError, OSError):
    """The disk of the cache, from which workers load data, has no space left.

    ``where`` says in short why, in which folder, and how much is free there.
    """

    def __init__(self, text: str, where: str = "") -> None:
        super().__init__(text)
        self.where = where


class DefinitionError(OptomaticError, ValueError):
    """A search definition file (``NAME.optomatic.toml``) cannot be read, written, or used here."""


class NotShippable(OptomaticError, TypeError, PicklingError):
    """An object cannot be pickled, so no worker can have it.

    ``cause`` says which and why, in short.
    """

    def __init__(self, text: str, cause: str | None = None) -> None:
        super().__init__(text)
        self.cause = cause or text


class OtherCode(OptomaticError, RuntimeError):
    """Workers of this process have loaded something else than they were sent."""


class SearchCancelled(OptomaticError, RuntimeError):
    """The search was withdrawn while it was waiting."""


class SearchRunning(OptomaticError, RuntimeError):
    """A search that runs cannot be removed."""


class FitTimeout(OptomaticError, TimeoutError):
    """A unit was ended as it took longer than the search's ``fit_timeout``."""


class MemoryLimit(OptomaticError, MemoryError):
    """A unit was ended as it took more memory than the search's ``memory_limit``."""


class GeneratorFailed(OptomaticError, ValueError):
    """A generator of candidates raised, or gave something that is no candidate."""


class FilterFailed(OptomaticError, ValueError):
    """A filter raised, or its answers cannot be read."""


class UnitFailed(OptomaticError, RuntimeError):
    """A unit failed with an exception whose type cannot be had here."""


class CallFailed(OptomaticError, RuntimeError):
    """A call of joblib raised an exception that cannot be had here."""


class CallLost(OptomaticError, RuntimeError):
    """A call of joblib ended each worker that ran it, or somebody removed it."""


class RemoteTraceback(Exception):
    """The cause of an exception that was raised on a worker: its traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class KeyNotCertain(UserWarning):
    """Something cannot be keyed for certain: scored for this search, never shared."""


class UnitsDied(UserWarning):
    """Some units killed the process that scored them, and were given up."""


class NoWorkers(UserWarning):
    """``n_jobs=0`` waits for standalone workers, and none has been seen."""


class NoProgress(UserWarning):
    """For 10 s nobody has worked on what a search waits for."""


class RecordsInvalid(UserWarning):
    """Stored records could not be read: they are kept, and their units are scored again."""


class WorkersRefuse(UserWarning):
    """Some workers have something else than a search was made with, and leave it alone."""


class RandomnessUnseeded(UserWarning):
    """The splitter has no seed: each fit draws other splits, and can reuse nothing."""


#: Names of searches have at most so many characters.
LONGEST_NAME = 1_000
_SHOWN = 200


def shown(value: object) -> str:
    """Return the ``repr`` of what a user gave, cut short.  Never raises.

    >>> shown("x" * 1_000)[-9:], shown(10**5_000)
    ('xxxxxx...', '<int>')
    """
    try:
        text = repr(value)
    except Exception:  # a repr of the user's; and an int may have too many digits for Python
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


#: Between a call of the user's and what it leads to stand these: joblib where scikit-learn fits
#: a search as part of something else.
_BETWEEN = ("optomatic", "sklearn", "joblib")


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that led here from outside, however many calls lie between."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_between(frame):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


def _is_between(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _BETWEEN
