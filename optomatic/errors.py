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

import re
from pickle import PicklingError
from typing import Any


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


#: Stands for what is not shown.
WITHHELD = "***"

_HOST = r"(?:\[[\w:.%-]+\]|[\w.%~+-]+)(?::\d{1,5})?"
_OPTION = re.compile(r"(\w+)=([^&;?@]*)")
# Where something is not of this form, nobody knows which part of it is a password.  The login goes
# up to the last @: a password may hold @, / or a line break, unescaped.
_ADDRESS = re.compile(
    rf"(mongodb(?:\+srv)?://)(.*@)?({_HOST}(?:,{_HOST})*(?:/[^/?@:\s]*)?)"
    rf"(\?(?:{_OPTION.pattern}(?:[&;]{_OPTION.pattern})*)?)?",
    re.DOTALL,
)
_SECRET = "(?i:pass|pwd|secret|token|credential|properties|proxyuser)"
_LOGIN_IN_TEXT = re.compile(
    r"(?<=://)(?:(?!mongodb(?:\+srv)?://).)*@|"
    r"(?<![\w:/@])[^\s:/@'\"]{1,200}:[^\s/@'\"]{1,200}@",
    re.DOTALL,
)
_SECRETS_IN_TEXT = re.compile(rf"\b(\w*{_SECRET}\w*)=[^&;\s]+")


def redact(text: str) -> str:
    """Return `text` without the credentials of any URI in it.

    The user name goes too: it tells an attacker half of what is needed.

    >>> redact("cannot reach mongodb://ann:secret@host/iris")
    'cannot reach mongodb://***@host/iris'
    """
    return _SECRETS_IN_TEXT.sub(rf"\1={WITHHELD}", _LOGIN_IN_TEXT.sub(f"{WITHHELD}@", text))


def masked(db: object) -> str:
    """Return how an address is shown: whatever may be a password in it is not.

    >>> masked("mongodb://ann:secret@host/iris?w=1&proxyPassword=secret")
    'mongodb://***@host/iris?w=1&proxyPassword=***'
    >>> masked("ann:secret@host"), masked([b"secret"])
    ('***', '***')
    """
    found = _ADDRESS.fullmatch(db) if isinstance(db, str) else None
    if found is None:
        return WITHHELD
    login = f"{WITHHELD}@" if found[2] else ""
    return f"{found[1]}{login}{found[3]}{_OPTION.sub(_shown_option, found[4] or '')}"


def _shown_option(option: re.Match[str]) -> str:
    return f"{option[1]}={WITHHELD if re.search(_SECRET, option[1]) else option[2]}"


class Address(str):
    """A URI that is printed without its credentials, in whatever it stands.

    scikit-learn prints constructor parameters, also those of nested estimators, with
    ``repr``; that is how passwords get into notebooks and logs.  As a string it is whole.

    >>> Address("mongodb://ann:secret@host/iris")
    'mongodb://***@host/iris'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked(self))


class NoAddress:
    """What was given in place of a URI, such as bytes or a list of hosts: kept, and not printed."""

    __slots__ = ("_given",)

    def __init__(self, given: object) -> None:
        self._given = given

    @property
    def kind(self) -> str:
        """Name of its type."""
        return type(self._given).__name__

    def __repr__(self) -> str:
        return repr(WITHHELD)

    def __eq__(self, other: object) -> bool:
        return bool(self._given == (other._given if isinstance(other, NoAddress) else other))

    def __hash__(self) -> int:
        return hash(self.kind)


def guarded(db: Any) -> Any:
    """Return what a user gives as a URI such that it is printed masked, whatever it is."""
    # An Address stays the object that it is: clone() looks whether it does.
    # A number has no password in it, and check_estimator looks whether it stays what it is.
    if db is None or isinstance(db, Address | NoAddress | int | float):
        return db
    if not isinstance(db, str):
        return NoAddress(db)
    return db if masked(db) == db else Address(db)
