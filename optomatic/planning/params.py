"""Params as text: exact, to be read again, and for people; values that a function returns."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optomatic.errors import StoreIncompatible
from optomatic.records import SCHEMA

# Exact, readable encoding of parameter values: type-tagged JSON.
#
# BSON changes values (a tuple becomes a list, ``np.float64`` a float, a datetime loses its
# microseconds) and refuses others (sets, int keys, 65-bit ints), so candidates travel as text::
#
#     [1, [["svc__C", 0.1], ["svc__class_weight", {"dict": [[0, 1], [1, 2.5]]}]]]
#      |    |         `-- a node
#      |    `-- names and nodes, in the candidate's order
#      `-- schema
#
# A node is what JSON has (null, true, 1, 1.0, "a", a list of nodes: ints and floats stay apart,
# floats are exact by ``repr``) or an object with one tag.  What has no exact text is *opaque*: the
# name of an object in a payload, ``"3"`` in that of the search, ``"<hash>:3"`` in a later one.  To
# add a tag, add it to both tables below; a reader that does not know it says so.  To change one,
# raise ``records.SCHEMA``.


#: Arrays above this many bytes are opaque.
_LARGE_ARRAY = 4_000
#: Characters of a hash; names of objects in the payload of the search are shorter.
_HASH = 64
#: Kinds of numpy dtypes whose bytes are their value.
_PLAIN_KINDS = "biufcmM"
#: Stands in the text of what holds an object, and in no string, whose quotes are escaped.
_OPAQUE = '"opaque"'
#: Python may refuse to write larger ints in decimal, however its limit is set.
_LONG_INT_BITS = 2_000
#: Kinds of numpy's scalars that people read as Python's.
_AS_PYTHON = "biufcSU"
_JSON_TYPES = (int, float, str, bool, type(None))


def encode(
    params: Mapping[str, object], name_of: Callable[[Any], str]
) -> tuple[str, dict[str, str]]:
    """Write `params` as exact text: :func:`decode` returns equal values of the same types.

    `name_of` returns the name of an opaque value.  Return also the readable values of params that
    hold such values.
    """
    nodes = [[name, _node(value, name_of)] for name, value in params.items()]
    text = json.dumps([SCHEMA, nodes])
    if _OPAQUE not in text:
        return text, {}
    held = [name for name, node in nodes if _OPAQUE in json.dumps(node)]
    return text, {_key(name): str(_readable(params[name])) for name in held}


def readable(params: Mapping[str, object]) -> dict[str, Any]:
    """Return `params` for people and queries, as far as BSON has their values."""
    return {_key(name): _readable(value) for name, value in params.items()}


def decode(text: str, load: Callable[[str], object]) -> dict[str, Any]:
    """Return the params that :func:`encode` wrote; `load` returns the opaque value of a name.

    Raise StoreIncompatible if a version that this one does not know wrote `text`.
    """
    return {name: _value(node, load) for name, node in _nodes(text)}


def names_of(text: str) -> list[str]:
    """Return the names of the params that :func:`encode` wrote."""
    return [name for name, _ in _nodes(text)]


def parts_of(text: str) -> set[str]:
    """Return the hashes of the parts that `text` names."""
    found: set[str] = set()

    def note(name: str) -> None:
        sha = name.partition(":")[0]
        if len(sha) == _HASH:
            found.add(sha)

    decode(text, note)
    return found


def _nodes(text: str) -> list[Any]:
    schema, nodes = json.loads(text)
    if schema != SCHEMA:
        raise _unknown(f"schema {schema!r}")
    return nodes  # type: ignore[no-any-return]


def _unknown(what: str) -> StoreIncompatible:
    return StoreIncompatible(
        f"Stored params have {what}, which this version of optomatic does not know. They were "
        "left alone. Use the version that wrote them, or a newer one, for this search."
    )


def _node(value: object, opaque: Callable[[object], str]) -> Any:
    kind = type(value)
    if kind in _JSON_TYPES and not (kind is int and value.bit_length() > _LONG_INT_BITS):  # type: ignore[attr-defined]
        return value
    if kind is list:
        return [_node(item, opaque) for item in value]  # type: ignore[attr-defined]
    write = _WRITERS.get(kind) or (_write_scalar if isinstance(value, np.generic) else None)
    node = write(value, opaque) if write else None
    return {"opaque": opaque(value)} if node is None else node


def _sorted_nodes(value: Any, opaque: Callable[[object], str]) -> list[Any]:
    # Sorted by text, as a set's own order depends on the process.
    return sorted((_node(item, opaque) for item in value), key=json.dumps)


def _write_scalar(value: Any, opaque: Callable[[object], str]) -> Any:
    """A numpy scalar, by dtype and bytes; None for those that hold objects or text."""
    if value.dtype.kind not in _PLAIN_KINDS or type(value) is not value.dtype.type:
        return None
    return {"scalar": [value.dtype.str, _base64(value.tobytes())]}


def _write_array(value: Any, opaque: Callable[[object], str]) -> Any:
    if value.dtype.kind not in _PLAIN_KINDS or value.nbytes > _LARGE_ARRAY:
        return None
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return {
        "array": [value.dtype.str, list(value.shape), order, _base64(value.tobytes(order=order))]
    }


def _write_datetime(value: Any, opaque: Callable[[object], str]) -> Any:
    if value.tzinfo not in (None, datetime.UTC) or value.fold:
        return None
    return {"datetime": value.isoformat()}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_WRITERS: dict[type, Callable[[Any, Callable[[object], str]], Any]] = {
    int: lambda v, o: {"int": hex(v)},
    tuple: lambda v, o: {"tuple": [_node(item, o) for item in v]},
    dict: lambda v, o: {"dict": [[_node(k, o), _node(item, o)] for k, item in v.items()]},
    set: lambda v, o: {"set": _sorted_nodes(v, o)},
    frozenset: lambda v, o: {"frozenset": _sorted_nodes(v, o)},
    bytes: lambda v, o: {"bytes": _base64(v)},
    complex: lambda v, o: {"complex": [v.real, v.imag]},
    range: lambda v, o: {"range": [_node(x, o) for x in (v.start, v.stop, v.step)]},
    slice: lambda v, o: {"slice": [_node(x, o) for x in (v.start, v.stop, v.step)]},
    datetime.date: lambda v, o: {"date": v.isoformat()},
    datetime.datetime: _write_datetime,
    datetime.timedelta: lambda v, o: {"timedelta": [v.days, v.seconds, v.microseconds]},
    np.ndarray: _write_array,
}


def _value(node: Any, load: Callable[[str], object]) -> Any:
    if isinstance(node, list):
        return [_value(item, load) for item in node]
    if not isinstance(node, dict):
        return node
    ((tag, content),) = node.items()
    read = _READERS.get(tag)
    if read is None:
        raise _unknown(f"a value of kind {tag!r}")
    return read(content, load)


def _read_scalar(content: Any, load: Callable[[str], object]) -> Any:
    return np.frombuffer(base64.b64decode(content[1]), dtype=content[0])[0]


def _read_array(content: Any, load: Callable[[str], object]) -> Any:
    dtype, shape, order, data = content
    flat = np.frombuffer(base64.b64decode(data), dtype=dtype)
    return flat.reshape(shape, order=order).copy(order=order)


_READERS: dict[str, Callable[[Any, Callable[[str], object]], Any]] = {
    "opaque": lambda c, load: load(c),
    "int": lambda c, load: int(c, 16),
    "tuple": lambda c, load: tuple(_value(item, load) for item in c),
    "dict": lambda c, load: {_value(k, load): _value(item, load) for k, item in c},
    "set": lambda c, load: {_value(item, load) for item in c},
    "frozenset": lambda c, load: frozenset(_value(item, load) for item in c),
    "bytes": lambda c, load: base64.b64decode(c),
    "complex": lambda c, load: complex(*c),
    "range": lambda c, load: range(*(_value(x, load) for x in c)),
    "slice": lambda c, load: slice(*(_value(x, load) for x in c)),
    "date": lambda c, load: datetime.date.fromisoformat(c),
    "datetime": lambda c, load: datetime.datetime.fromisoformat(c),
    "timedelta": lambda c, load: datetime.timedelta(*c),
    "scalar": _read_scalar,
    "array": _read_array,
}


_SHOWN = 200


def _readable(value: object) -> Any:
    """Return something like `value` that BSON has.  Never raises."""
    if type(value) in (float, bool, type(None)):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if -(2**63) <= value < 2**63 else _shown(value)
    if isinstance(value, str):
        return _clean(str(value))
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return _readable(value.item())
    if type(value) in (list, tuple) and len(value) <= 20:  # type: ignore[arg-type]
        return [_readable(item) for item in value]  # type: ignore[attr-defined]
    return _shown(value)


def _shown(value: object) -> str:
    try:
        return _clean(repr(plain(value)))
    except Exception as error:  # a repr of the user's
        return f"<{type(value).__name__}: {type(error).__name__} in its repr>"


def _clean(text: str) -> str:
    cut = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")


def _key(name: str) -> str:
    """Return a field's name that MongoDB takes."""
    return _clean(name).replace("\0", "")


# The extra that a scoring function returns beside its score <-> exact text.
#
# It is written like params are, so that what comes back has the same types, and reading it never
# runs anybody's code.  So it holds plain values: numbers, texts, dates, small arrays, and lists,
# tuples, sets and dicts of them.


#: Characters.  Results are handed in by the dozen, in one message.
LARGEST = 1_000_000
_NAME = "extra"


def encode_extra(extra: object) -> str:
    """Write `extra` down; raise TypeError if it is not plain, ValueError if it is too long."""
    text, _ = encode({_NAME: extra}, _refuse)
    if len(text) > LARGEST:
        raise ValueError(
            f"the extra beside the score takes {len(text):,} characters, and at most {LARGEST:,} "
            "are kept; return less, and store large things where the function runs"
        )
    return text


def decode_extra(text: str | None) -> Any:
    """Return what :func:`encode_extra` wrote; None for None."""
    return None if text is None else decode(text, _refuse_to_load)[_NAME]


def _refuse(value: object) -> str:
    raise TypeError(
        f"the extra beside the score holds {type(value).__module__}.{type(value).__qualname__}, "
        "and only plain values are kept: numbers, texts, small arrays, and lists, tuples, sets and "
        "dicts of them; return .tolist() of a large array"
    )


def _refuse_to_load(sha: str) -> object:
    raise ValueError(f"a stored extra names the object {sha!r}; none does, so it was not loaded")


# Params as people read them: numbers and texts of numpy as Python's own.


def plain(value: Any) -> Any:
    """Return `value` with Python's own numbers and texts in place of numpy's.

    Looks into lists, tuples and dicts.

    Examples
    --------
    >>> plain({"C": np.float64(0.3), "kernels": [np.str_("rbf"), None]})
    {'C': 0.3, 'kernels': ['rbf', None]}
    """
    if isinstance(value, np.generic):
        return value.item() if value.dtype.kind in _AS_PYTHON else value
    if type(value) is dict:
        return {name: plain(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value


def params_line(params: Mapping[str, Any]) -> str:
    """Return params in one line, as scikit-learn prints them.

    Examples
    --------
    >>> params_line({"C": np.float64(0.3), "kernel": "rbf"})
    'C=0.3, kernel=rbf'
    """
    return ", ".join(f"{name}={_in_a_line(value)}" for name, value in params.items())


def _in_a_line(value: Any) -> str:
    try:
        return " ".join(str(plain(value)).split())
    except Exception:  # a str of the user's
        return f"<{type(value).__name__}>"
