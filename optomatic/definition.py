"""``NAME.optomatic.toml``: a database and its searches; drivers write it, workers read it.

::

    schema = 1
    db = "mongodb://host/iris"     # absent: the private server of the machine
    searches = [
        "trees",                   # scored in this order
        "boosting",
    ]

It never has a password: ``***`` replaces the credentials of an address.

To change the form, raise :data:`SCHEMA`, go on reading the old one, and keep a file of the old form
in the tests.  A file is replaced as a whole, so readers see the old one or the new one.  A
file of another form is never replaced, and only regular files are opened.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optomatic._uri import WITHHELD, guarded, masked, redact, same_place
from optomatic.errors import DefinitionError, shown

SUFFIX = ".optomatic.toml"
SCHEMA = 1
#: Characters of a path on Linux, at most.
_LONGEST_PATH = 4_000
_HEAD = """\
# Searches that are worked off, one after another, by: optomatic worker
# (in this directory).  Written by optomatic; a password is never written down here.
"""


@dataclass(frozen=True, slots=True)
class Definition:
    """The content of a file.

    ``db`` is the address without credentials, None for the private server of the machine.
    ``searches`` are names, in the order of their first submission.
    """

    db: str | None
    searches: tuple[str, ...]


def path_of(definition: str | os.PathLike[str]) -> Path:
    """Return the path of a file, whose name may lack the suffix.

    >>> str(path_of("runs/sweep"))
    'runs/sweep.optomatic.toml'
    """
    text = definition.__fspath__() if isinstance(definition, os.PathLike) else definition
    if not isinstance(text, str) or "\0" in text or not 0 < len(text.strip()) <= _LONGEST_PATH:
        text = ""
    if not text.removesuffix(SUFFIX).strip():
        raise DefinitionError(
            f"definition is {shown(definition)}, which names no file. Nothing was queued. Give a "
            "name such as 'sweep', for sweep.optomatic.toml in the current directory, or a path."
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise DefinitionError(
            f"definition is {shown(text)}, and that home directory is not known ({error}). Nothing "
            "was queued. Give the whole path."
        ) from None
    if path.name.endswith(SUFFIX):
        return path
    if text.endswith(os.sep) or (os.path.exists(path) and not os.path.isfile(path)):
        raise DefinitionError(
            f"definition is {shown(text)}, which is a directory or no regular file, and nothing "
            f"was queued. Give the name of a file, such as {os.path.join(text, 'sweep')!r}, or "
            f"with its whole suffix, such as '{text.rstrip(os.sep) or 'sweep'}{SUFFIX}'."
        )
    return path.with_name(path.name + SUFFIX)


def read(path: Path) -> Definition:
    """Return the content of a file.

    Raises DefinitionError if it cannot be read, or has no form that this version knows.
    """
    try:
        with open(_open_plain(path, os.O_RDONLY), "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise DefinitionError(
            f"The search definition {path} cannot be read ({error.strerror}). Nothing was queued "
            "or scored. Look at the path."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _odd(path, f"it is no TOML: {error}") from None
    return _checked(path, content)


def add(path: Path, search: str, db: str | None) -> None:
    """Add the name of a search to a file, which is made if it is missing.

    `db` is the address of its database, whose credentials are not written.  Raises DefinitionError
    for a file of another database, and for one that :func:`read` refuses; the file stays as it is.
    Any number of processes may call this at the same time.
    """
    try:
        search.encode()
    except UnicodeEncodeError:
        raise DefinitionError(
            f"The name {search!r} cannot be written as UTF-8, so it cannot stand in {path}. "
            "Nothing was queued. Choose another name."
        ) from None
    try:
        path = Path(os.path.realpath(path))  # a link stays one
        if path.is_symlink():  # links that lead in a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        _refuse_odd(path)
        with _locked(path):
            _replace(path, _with(path, search, db))
    except OSError as error:
        raise DefinitionError(
            f"The search definition {path} cannot be written ({error.strerror}). Nothing was "
            "queued. Look at the path and the rights of its directory, or leave definition= out."
        ) from None


def is_whole(db: str | None) -> bool:
    """Return whether an address from a file is usable, with no credentials missing."""
    return db is None or WITHHELD not in db


def _with(path: Path, search: str, db: str | None) -> Definition:
    """Return the new content of a file."""
    shown = None if db is None else masked(db)
    if not path.exists():
        return Definition(shown, (search,))
    there = read(path)
    if not same_place(there.db, db):
        raise DefinitionError(
            f"The search definition {path} is of another database ({_named(there.db)}) than this "
            f"search ({_named(shown)}). Nothing was queued, and the file is as it was. Give the "
            "search a definition of its own, or remove the file if its searches are over."
        )
    return Definition(shown, tuple(dict.fromkeys([*there.searches, search])))


def _named(db: str | None) -> str:
    return "the private server of this machine" if db is None else masked(db)


def _replace(path: Path, definition: Definition) -> None:
    """Replace a file, unless its content is the same."""
    content = _written(definition).encode()
    if path.exists() and path.read_bytes() == content:
        return
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(beside, "xb") as file:
        try:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Lock another file, because the definition is replaced.
    lock = path.with_name(f".{path.name}.lock")
    with open(_open_plain(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW), "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open_plain(path: Path, flags: int) -> int:
    _refuse_odd(path)
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def _refuse_odd(path: Path) -> None:
    """Refuse a pipe, a device or a directory, whose opening may wait or have effects."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "it is no regular file")


def _written(definition: Definition) -> str:
    lines = [f"schema = {SCHEMA}"]
    if definition.db is not None:
        lines.append(f"db = {_quoted(definition.db)}")
    names = [f"    {_quoted(name)}," for name in definition.searches]
    return "\n".join([_HEAD, *lines, "searches = [", *names, "]", ""])


def _quoted(text: str) -> str:
    # TOML has the escapes of JSON, and one more.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _checked(path: Path, content: dict[str, Any]) -> Definition:
    schema = content.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise _odd(path, f"its schema is {schema!r}, and this version knows {SCHEMA}")
    unknown = sorted(set(content) - {"schema", "db", "searches"})
    if unknown:
        raise _odd(path, f"it has {unknown}, which mean nothing there")
    db, searches = content.get("db"), content.get("searches", [])
    if not (db is None or isinstance(db, str)):
        raise _odd(path, f"db is {db!r}, not the address of a database")
    if not isinstance(searches, list) or not all(isinstance(s, str) and s for s in searches):
        raise _odd(path, "searches is not a list of names")
    return Definition(guarded(db), tuple(searches))


def _odd(path: Path, why: str) -> DefinitionError:
    return DefinitionError(
        f"{path} is no search definition that can be used: {redact(why)}. The file is as it was, "
        "and nothing was queued or scored. Mend it, use the version of optomatic that wrote it, or "
        "remove it: the next driver writes it anew."
    )
