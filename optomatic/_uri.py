"""URIs of databases: their hosts; their credentials, which are masked in all output."""

from __future__ import annotations

import re
from typing import Any

#: Replaces secrets.
WITHHELD = "***"
_DEFAULT_PORT, _DEFAULT_DATABASE = "27017", "optomatic"


_HOST = r"(?:\[[\w:.%-]+\]|[\w.%~+-]+)(?::\d{1,5})?"
_OPTION = re.compile(r"(\w+)=([^&;?@]*)")
# In a text of another form any part may be a password.  The login goes up to the last @: a
# password may contain @, / or a line break, unescaped.
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

    The user name is removed too, as it helps attackers.

    >>> redact("cannot reach mongodb://ann:secret@host/iris")
    'cannot reach mongodb://***@host/iris'
    """
    return _SECRETS_IN_TEXT.sub(rf"\1={WITHHELD}", _LOGIN_IN_TEXT.sub(f"{WITHHELD}@", text))


def masked(db: object) -> str:
    """Return an address for output, without all parts that may be a password.

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


def same_place(one: str | None, other: str | None) -> bool:
    """Return whether two addresses have the same hosts and database, with any credentials.

    >>> same_place("mongodb://ann:secret@b,a:27017/iris?w=1", "mongodb://***@a,b/iris")
    True
    """
    if one is None or other is None:
        return one is other
    return _place(one) == _place(other)


def hosts_and_database(uri: str) -> tuple[list[str], str]:
    """Return the hosts of an address, with ports, and its database, without credentials.

    >>> hosts_and_database("mongodb://ann:secret@b,a:27018/iris?w=1")
    (['b:27017', 'a:27018'], 'iris')
    """
    scheme, _, rest = redact(uri).partition("://")
    hosts, _, path = rest.partition("?")[0].rpartition("@")[2].partition("/")
    return [_with_port(scheme, host) for host in hosts.split(",")], path or _DEFAULT_DATABASE


def _place(uri: str) -> tuple[str, frozenset[str], str]:
    hosts, database = hosts_and_database(uri)
    return uri.partition("://")[0], frozenset(hosts), database


def _with_port(scheme: str, host: str) -> str:
    if "%2F" in host or scheme != "mongodb":  # a socket, or a name whose DNS record has ports
        return host
    bare = host.lower()
    has_port = ":" in bare.rpartition("]")[2]
    return bare if has_port else f"{bare}:{_DEFAULT_PORT}"


class Address(str):
    """A URI whose ``repr`` has no credentials.

    scikit-learn prints constructor parameters by ``repr``, those of nested estimators included,
    so passwords would get into notebooks and logs.  As a string it is whole.

    >>> Address("mongodb://ann:secret@host/iris")
    'mongodb://***@host/iris'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked(self))


class NoAddress:
    """A value in place of a URI, such as bytes or a list of hosts: kept, but not printed."""

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
    """Return a value that a user gives as a URI in a form that is printed masked."""
    # clone() checks that an Address stays the same object, check_estimator that a number does.
    if db is None or isinstance(db, Address | NoAddress | int | float):
        return db
    if not isinstance(db, str):
        return NoAddress(db)
    return db if masked(db) == db else Address(db)
