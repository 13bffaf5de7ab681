"""Calls of joblib <-> what is stored of them.

A call is a batch of ``(function, args, kwargs)``, pickled by value where it comes from
``__main__``.  Large arrays in it, however deep, are parts of their own: stored once by
content, whatever calls use them, and mapped into memory by the workers of a machine.

A call is never reused, so its key is random: two calls with equal arguments may well be
meant to give two results.
"""

from __future__ import annotations

import io
import pickle
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import cloudpickle
import numpy as np

from optomatic.errors import NotShippable, StoreError
from optomatic.keys.environment import required_versions
from optomatic.planning import params, serialization
from optomatic.planning.constraints import constraints_of, hash_of, threads_of
from optomatic.records import SCHEMA, Call, Part, Unit, Work

#: A pickle of so many bytes is a part, not text in the record of its call.
_LARGE_PICKLE = 256_000
#: A function with its args and kwargs.
Task = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]


@cache
def call_work(
    level: int, threads: int | None, mmap_mode: str | None, initializer: str | None
) -> Work:
    """Return what the calls of one ``Parallel`` have in common.

    Parameters
    ----------
    level : int
        How deep in nested calls of ``Parallel`` they run.
    threads : int or None
        Threads that numeric libraries may use in a call; None leaves it to the worker.
    mmap_mode : {"r", "c"} or None
        How large arrays are mapped into memory: for reading, to be changed by one call
        alone, or not at all.
    initializer : str or None
        Hash of a pickled ``(function, args)`` that a process runs before its first such call.
    """
    env = required_versions({})
    able = ["call", SCHEMA, sorted(env.items())]
    return Work(
        kind="call",
        spec={"initializer": initializer},
        options={"level": level, "threads": threads_of(threads), "mmap_mode": mmap_mode},
        env=env,
        requires=(),
        queue=hash_of(able),
        constraints=constraints_of(able),
    )


def pack_call(
    tasks: Sequence[Task], work: Work, keep: Callable[[Any], str], smallest: int | None
) -> Call:
    """Write down one call.

    Parameters
    ----------
    keep : callable
        Stores an array as a part, unless it has done so before, and returns the hash.
    smallest : int or None
        Arrays of so many bytes and more are parts of their own; None: no array is.

    Raises
    ------
    NotShippable
        If something in it cannot be pickled.
    """
    data, large = _pickled(list(tasks), keep, smallest)
    shown = {"call": _name(tasks[0][0]) if tasks else "", "tasks": len(tasks)}
    return _call(data, large, work, shown)


def renew_call(call: Call) -> Call:
    """Return `call` under another key, so that it can be queued once more."""
    values = params.decode(call.unit.params_text, str)
    data = values["tasks"]
    if call.own is not None:
        data = serialization.load(call.own.kind, b"".join(call.own.buffers))[1]
    return _call(data, values["large"], call.unit.work, call.unit.params)


def _call(data: bytes, large: Sequence[str], work: Work, shown: Mapping[str, Any]) -> Call:
    key = secrets.token_hex(32)
    # With its key the pickle is nobody else's part, and may be removed with the call.
    own = serialization.dump((key, data)) if len(data) >= _LARGE_PICKLE else None
    named = [Part(sha, "npy", 0, ()) for sha in large]
    text = params.encode({"tasks": own or data, "large": named}, _hash_of).text
    return Call(Unit(f"u{SCHEMA}:{key}:{work.constraints}", key, 0, shown, text, work), own)


def _hash_of(part: Part) -> str:
    return part.sha


def unpack_call(text: str, load: Callable[[str], Any]) -> list[Task]:
    """Return the tasks that :func:`pack_call` wrote down.

    Parameters
    ----------
    load : callable
        Hash -> the value of a part.

    Raises
    ------
    Exception
        Whatever unpickling raises, where classes or modules are missing here.
    """
    tasks = params.decode(text, str)["tasks"]
    data = tasks if isinstance(tasks, bytes) else load(tasks)[1]
    return _Unpickler(io.BytesIO(data), load).load()  # type: ignore[no-any-return]


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or '?'}.{name}"


def _pickled(
    tasks: list[Task], keep: Callable[[Any], str], smallest: int | None
) -> tuple[bytes, list[str]]:
    """Return the pickle of `tasks` and the hashes that stand in it for large arrays."""
    file = io.BytesIO()
    pickler = _Pickler(file, keep, float("inf") if smallest is None else smallest)
    try:
        pickler.dump(tasks)
    except StoreError:
        raise
    except Exception as error:  # whatever a __reduce__ of the user's raises
        names = ", ".join(sorted({_name(task[0]) for task in tasks})[:3])
        raise NotShippable(
            f"A call of {names} cannot be pickled, so no worker can have it "
            f"({type(error).__name__}: {error}). It was not queued. Make its arguments "
            "picklable, for instance by opening files and connections in the function."
        ) from error
    return file.getvalue(), list(pickler.large)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles by value what comes from ``__main__``, and large arrays by their hash."""

    def __init__(self, file: io.BytesIO, keep: Callable[[Any], str], smallest: float) -> None:
        super().__init__(file, protocol=5)
        self._keep = keep
        self._smallest = smallest
        self.large: dict[str, None] = {}
        self._names: dict[int, str] = {}

    def persistent_id(self, value: Any) -> str | None:
        """Return a name for a large array, its hash and a number; None for everything else.

        The same array has the same name, and one of equal content another: a function that
        writes into the one must not find that in the other.
        """
        if type(value) not in (np.ndarray, np.memmap):
            return None
        if value.nbytes < self._smallest or value.dtype.hasobject or not value.nbytes:
            return None
        if id(value) not in self._names:
            sha = self._keep(value)
            self.large[sha] = None
            self._names[id(value)] = f"{sha}:{len(self._names)}"
        return self._names[id(value)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, load: Callable[[str], Any]) -> None:
        super().__init__(file)
        self._load_part = load
        self._arrays: dict[str, Any] = {}

    def persistent_load(self, name: str) -> Any:
        """Return the array that was pickled by its name."""
        if name not in self._arrays:
            self._arrays[name] = self._load_part(name.partition(":")[0])
        return self._arrays[name]
