"""In the child: parts on disk -> objects -> results.  User code is loaded and run here."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from optomatic import _sklearn
from optomatic.keys.environment import files_digest
from optomatic.planning import params, serialization
from optomatic.planning.constraints import limits_in
from optomatic.planning.payload import Loaded, head_of, load_payload
from optomatic.planning.workload import Workload, unpack_splits, workload_of
from optomatic.records import Result
from optomatic.worker.prefix_files import PrefixFiles, prefix_files
from optomatic.worker.prefixes import prefixes_of
from optomatic.worker.protocol import result_to_wire, returned_to_wire
from optomatic.worker.score import failed, run_calls, score_safely, within_limits

#: So many payloads stay loaded, and so many arguments of calls.
_BUNDLES, _VALUES = 4, 64


class Refused(Exception):
    """A payload is not the same here as in its sender, so nothing is scored.

    `why` says what is missing or differs, `error` is what loading raised.  `behind` says that a
    file was edited since it was imported here, so a new process will do better.
    """

    def __init__(self, why: str, error: ImportError | None = None, *, behind: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.error = error
        self.behind = behind


class Ready(NamedTuple):
    """The objects from which the units of a search are scored."""

    workload: Workload
    loaded: Loaded
    #: Payloads that came later, by hash.
    more: dict[str, Loaded]
    #: Objects that payloads name instead of holding them, by name.
    large: dict[Any, Any]
    #: What is said of the unit to its scoring.
    here: dict[str, Any]


#: Digests of files of user modules that go by name, when this process imported them.
_files: dict[str, str | None] = {}


def open_payload(
    data: bytes, load_part: Callable[[tuple[Any, ...]], Any], first: Loaded | None = None
) -> Loaded:
    """Load a payload, and raise :class:`Refused` if its sender had something else.

    Unpickling may raise anything.
    """
    head = head_of(data)
    for module, wanted in head["by_reference"].items():
        now = files_digest(module)
        if _files.setdefault(module, now) != wanted:
            what = "is not here" if now is None else "has other files here"
            raise Refused(f"{module} {what}", behind=now == wanted)
    try:
        loaded = load_payload(data, load_part, first)
    except ImportError as error:
        # A payload without user code shares its queue with other searches.
        if error.name and (head["code"] or head["by_reference"]):
            raise Refused(f"{error.name} cannot be imported ({error})", error) from error
        raise
    if (parted := loaded.parted()) is not None:
        what = loaded.parted_at() or parted
        raise Refused(f"{what} is not the same here as in the process that asks for scores")
    return loaded


class Loader:
    """Scores units from the parts that it has been told of, keeping the last few loaded."""

    def __init__(self) -> None:
        self._where: dict[str, tuple[str, str]] = {}
        self._folder, self._cache_size = Path(), 0
        self._files: PrefixFiles | None = None
        self._bundles: OrderedDict[str, Ready] = OrderedDict()
        self._values: OrderedDict[str, object] = OrderedDict()
        #: Nothing of the user's was loaded yet, so what is imported is what the files say now.
        self.fresh = True

    def know(self, where: Mapping[str, tuple[str, str]], folder: Path, cache_size: int = 0) -> None:
        """Note kind and path of parts, by hash, and the folder and the size of the cache."""
        self._where.update(where)
        self._folder, self._cache_size = folder, cache_size

    def run(
        self,
        work: Mapping[str, Any],
        text: str,
        split: int,
        *,
        begins_anew: Callable[[], None] = lambda: None,
    ) -> tuple[Any, float]:
        """Run one unit; return the message about it and the seconds of it that went into loading.

        `work` has ``kind``, ``spec`` and ``options``, and a ``key`` that is equal for equal
        ones.  `begins_anew` is called between loading and scoring, where limits start a clock.

        Raises :class:`Refused` if the code is not that of the sender, or is not here; nothing of
        user code, ``SystemExit`` included.
        """
        run = self._call if work["kind"] == "call" else self._score
        return run(work, text, split, begins_anew)

    def _score(
        self, work: Mapping[str, Any], text: str, split: int, begins_anew: Callable[[], None]
    ) -> tuple[list[Any], float]:
        options = work["options"]
        loaded = begins_anew if limits_in(options) else (lambda: None)
        result, loading = within_limits(options, lambda: self.score(work, text, split, loaded))
        return result_to_wire(result), loading

    def _call(self, work: Mapping[str, Any], text: str, *_: object) -> tuple[dict[str, Any], float]:
        self.fresh = False
        mode = work["options"]["mmap_mode"]
        data, failure = run_calls(
            text, work["spec"], work["options"], lambda sha: self.argument(sha, mode)
        )
        try:
            return returned_to_wire(data, failure, self._folder), 0.0
        except OSError as error:
            error.add_note("The call returned, but there was no room for what it returned.")
            failure = _sklearn.failure_of(error, "call")
            return returned_to_wire(None, failure, self._folder), 0.0

    def score(
        self, work: Mapping[str, Any], text: str, split: int, loaded: Callable[[], None]
    ) -> tuple[Result, float]:
        """Score one unit; return its result and the seconds of it that went into loading.

        An error that keeps the objects from being loaded is a failure of stage ``load``.
        """
        began = time.perf_counter()
        loading = 0.0
        try:
            try:
                ready = self._ready(work)
                candidate = params.decode(text, lambda name: self._named(name, ready))
            except Refused:
                raise
            except Exception as error:
                self.fresh = False
                return failed(_sklearn.failure_of(error, "load")), 0.0
            self.fresh = False
            loading = time.perf_counter() - began
            loaded()
            with ready.loaded.installed():
                return score_safely(ready.workload, candidate, split, **ready.here), loading
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            return failed(_sklearn.failure_of(error, "raise")), loading

    def _ready(self, work: Mapping[str, Any]) -> Ready:
        key = work["key"]
        if key not in self._bundles:
            spec = work["spec"]
            large: dict[Any, Any] = {}
            loaded = open_payload(self._load(spec["payload"]), self._by_name(large))
            splits = unpack_splits(self._load(spec["splits"])) if "splits" in spec else ()
            workload = workload_of(loaded.roles, splits, work["options"])
            ready = Ready(workload, loaded, {}, large, self._here(work["options"]))
            _keep(self._bundles, key, ready, _BUNDLES)
        self._bundles.move_to_end(key)
        return self._bundles[key]

    def _here(self, options: Mapping[str, Any]) -> dict[str, Any]:
        if self._files is None and options.get("prefixes"):
            self._files = prefix_files(self._folder.parent, self._cache_size)
        found = prefixes_of(options, self._files)
        return {} if found is None else {"prefixes": found}

    def _by_name(self, known: dict[Any, Any]) -> Callable[[tuple[Any, ...]], Any]:
        """Return a function that loads parts by name: one object for each name."""

        def load_part(name: tuple[Any, ...]) -> Any:
            if name not in known:
                known[name] = self._load(name[1])
            return known[name]

        return load_part

    def _named(self, name: str, ready: Ready) -> object:
        """Return an object that stands in a candidate.  Each unit works on its own clone."""
        sha, _, number = name.rpartition(":")
        if not sha:
            return ready.loaded.values[int(number)]
        if sha not in ready.more:
            load_part = self._by_name(ready.large)
            ready.more[sha] = open_payload(self._load(sha), load_part, ready.loaded)
        return ready.more[sha].values[int(number)]

    def argument(self, sha: str, mmap_mode: Literal["r", "c"] | None) -> object:
        """Return an argument of a call by its hash; arrays are mapped anew at each look.

        Bytes are verified at the first look: after that the file is held by a map.
        """
        if sha not in self._values:
            _keep(self._values, sha, self._load(sha), _VALUES)
        self._values.move_to_end(sha)
        kind, path = self._where[sha]
        if kind == "npy":
            return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        return self._values[sha]

    def _load(self, sha: str) -> Any:
        kind, path = self._where[sha]
        serialization.verify(sha, kind, Path(path))
        return serialization.load(kind, Path(path))


def _keep(kept: OrderedDict[str, Any], key: str, value: object, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
