"""Whatever proposes candidates, behind one pair of calls: ask and tell.

=====================  ==========================================================================
generator              asked how
=====================  ==========================================================================
has ``ask(n)``         ``ask(n)`` or ``ask(n, history)`` returns up to `n` dicts; none: not now,
                       or, while nothing is in flight, never again.  ``tell(evaluations)``, if it
                       is there, is called with what has ended since.
a function             ``propose(history)`` or ``propose(history, n)`` returns a dict, up to `n` of
                       them, or None: as above.  One that takes nothing gives an iterable.
iterable of dicts      in its order, no further than is needed
=====================  ==========================================================================

``history`` is a DataFrame of all candidates so far, those in flight included (``state`` is
``pending``); of one that racing stopped (``stopped``) the score is the mean over the splits that it
has, there and in what ``tell`` is given.  A generator that has ``begin(directions)`` is told first
what is sought: a dict of metric -> ``maximize`` or ``minimize``, of one metric mostly.

With ``warm_start`` scores of earlier searches come before the first ``ask``, as evaluations that
are completed and have a ``number`` below 0: the one told last, the latest, has -1.  As nobody
asked the generator for these, it hears of them by a method of its own,
``tell_earlier(evaluations)``, and only if it has that one (``tell_earlier = tell`` may do); it
may return how many of them it could use.  If it has a ``space`` (a dict of params, or a list of
them), these have the params of that.  In ``history`` they are the first rows, with ``earlier``
true.

A generator that never ends by itself says so: ``endless = True``.  A search refuses it unless it
has ``n_iter``, ``time_budget``, ``target_score`` or ``n_no_improve`` (or repeats another search,
by ``replay``).  One that does not say so is taken to end.  Without ``n_iter`` a search also ends,
with a warning, after :data:`~optomatic.candidates.schedule.NOTHING_NEW` candidates in a row that
filters left out or that it had asked for before.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from optomatic.candidates.schedule import NOTHING_NEW, TRIED_BEFORE
from optomatic.errors import GeneratorFailed, shown, warn
from optomatic.keys.digest import digest_of
from optomatic.records import Evaluation

#: Returns the history; made only if somebody looks at it.
History = Callable[[], Any]
Directions = Mapping[str, str]


class Proposer(Protocol):
    """Gives candidates when asked; hears what came of them.

    Attributes
    ----------
    name : str
        For errors.
    adaptive : bool
        What it gives depends on what it was told, so it is asked as late as possible.
    """

    name: str
    adaptive: bool

    def ask(self, n: int, history: History) -> list[dict[str, Any]]:
        """Return up to `n` candidates.

        Raises
        ------
        GeneratorFailed
            For whatever the generator raises, or if it gives something else than dicts.
        """

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Tell what came of candidates, each once."""

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        """Tell what came of candidates of earlier searches; return how many could be used."""


def is_generator(space: Any) -> bool:
    """Tell whether `space` is a generator of candidates: no grid and no list of grids."""
    if isinstance(space, Mapping | list | tuple | str):
        return False
    return hasattr(space, "ask") or callable(space) or isinstance(space, Iterable)


def is_adaptive(space: Any) -> bool:
    """Tell whether what `space` gives depends on what comes of it."""
    return is_generator(space) and (hasattr(space, "ask") or _wants_history(space))


def is_endless(space: Any) -> bool:
    """Return whether `space` says that it never ends."""
    return getattr(space, "endless", False) is True


def refuse_endless(space: Any, *, ends: bool) -> None:
    """Raise ValueError for a generator without an end, if nothing else `ends` the search."""
    if is_endless(space) and not ends:
        raise ValueError(
            f"The generator {_name_of(space)} never ends, and nothing ends the search. Nothing "
            "was queued. Give n_iter=, time_budget=, target_score= or n_no_improve=."
        )


def up_to_repeats(space: Any) -> Any:
    """Return an iterable that ends, with a warning, once it gives only what it gave before.

    A space that is no iterable, or has a length, is returned as it is.
    """
    if is_adaptive(space) or not isinstance(space, Iterable) or hasattr(space, "__len__"):
        return space
    return _up_to_repeats(space)


def _up_to_repeats(items: Iterable[Any]) -> Iterator[Any]:
    seen: set[str] = set()
    repeated = 0
    for item in items:
        yield item
        digest = digest_of(dict(item)).hex
        repeated = repeated + 1 if digest in seen else 0
        seen.add(digest)
        if repeated >= NOTHING_NEW:
            warn_of_repeats(_name_of(items), f"the last {repeated:,} candidates {TRIED_BEFORE}")
            return


def warn_of_repeats(name: str, reason: str) -> None:
    """Say that a search ended as its generator gave nothing new."""
    warn(
        f"The generator {name} is asked no more, as it gave nothing new: {reason}. The search "
        "ends with the scores that it has. Give n_iter= to have repeats too, other filters, or "
        "a larger space.",
        UserWarning,
    )


def proposer_for(space: Any, directions: Directions) -> Proposer:
    """Return a proposer that begins anew, whatever was asked of `space` before.

    An object with ``ask`` is copied for that; what can be gone through once, such as a Python
    generator, goes on where it is.
    """
    if hasattr(space, "ask"):
        return _AskTell(_begun(_copied(space), directions))
    if callable(space) and _wants_history(space):
        return _FromHistory(space)
    return _FromIterable(space() if callable(space) else space, _name_of(space))


def _copied(generator: Any) -> Any:
    try:
        return copy.deepcopy(generator)
    except Exception:  # of the user's: what cannot be copied is used as it is
        return generator


def _begun(generator: Any, directions: Directions) -> Any:
    if hasattr(generator, "begin"):
        _guarded(_name_of(generator), lambda: generator.begin(dict(directions)))
    return generator


def _wants_history(space: Any) -> bool:
    if not callable(space) or hasattr(space, "__iter__") or inspect.isgeneratorfunction(space):
        return False
    try:
        return bool(inspect.signature(space).parameters)
    except (TypeError, ValueError):
        return True


def _name_of(generator: Any) -> str:
    return getattr(generator, "__qualname__", None) or type(generator).__qualname__


def _guarded(name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # of the user's
        raise GeneratorFailed(
            f"The generator {name} raised {type(error).__name__}: {error}. All finished units are "
            "stored, and what was queued is withdrawn. Mend it and search again: nothing that "
            "is stored is scored twice."
        ) from error


def _checked(name: str, given: Any) -> list[dict[str, Any]]:
    """Return what a generator gave as a list of dicts."""
    if given is None:
        return []
    items = [given] if isinstance(given, Mapping) else given
    if isinstance(items, str) or not isinstance(items, Iterable):
        raise _nonsense(name, items)
    found = _guarded(name, lambda: list(items))
    for item in found:
        if not isinstance(item, Mapping) or not all(isinstance(key, str) for key in item):
            raise _nonsense(name, item)
    return [dict(item) for item in found]


def _nonsense(name: str, item: Any) -> GeneratorFailed:
    return GeneratorFailed(
        f"The generator {name} gave {shown(item)} ({type(item).__name__}), which is no candidate: "
        "one is a dict of params by name. All finished units are stored, and what was queued is "
        "withdrawn."
    )


def _takes_second(function: Any, name: str) -> bool:
    """Tell whether `function` has a second argument, called `name` or without a default."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # no signature is known
        return False
    if len(parameters) < 2:
        return False
    second = parameters[1]
    return second.name == name or second.default is inspect.Parameter.empty


class _AskTell:
    adaptive = True

    def __init__(self, generator: Any) -> None:
        self.name = _name_of(generator)
        self._generator = generator
        self._with_history = _takes_second(generator.ask, "history")

    def ask(self, n: int, history: History) -> list[dict[str, Any]]:
        arguments = (n, history()) if self._with_history else (n,)
        return _checked(self.name, _guarded(self.name, lambda: self._generator.ask(*arguments)))

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        tell = getattr(self._generator, "tell", None)
        if tell is not None:
            _guarded(self.name, lambda: tell(list(evaluations)))

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        tell = getattr(self._generator, "tell_earlier", None)
        if tell is None:
            return len(evaluations) if self._with_history else 0
        used = _guarded(self.name, lambda: tell(list(evaluations)))
        return used if isinstance(used, int) else len(evaluations)


class _FromHistory:
    adaptive = True

    def __init__(self, propose: Callable[..., Any]) -> None:
        self.name = _name_of(propose)
        self._propose = propose
        self._with_number = _takes_second(propose, "n")

    def ask(self, n: int, history: History) -> list[dict[str, Any]]:
        arguments = (history(), n) if self._with_number else (history(),)
        return _checked(self.name, _guarded(self.name, lambda: self._propose(*arguments)))

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """It reads the history."""

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        return len(evaluations)


class _FromIterable:
    adaptive = False

    def __init__(self, items: Iterable[Any], name: str) -> None:
        self.name = name
        self._items: Iterator[Any] = _guarded(name, lambda: iter(items))

    def ask(self, n: int, history: History) -> list[dict[str, Any]]:
        return _checked(self.name, _guarded(self.name, lambda: list(islice(self._items, n))))

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """What comes of them changes nothing."""

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        return len(evaluations)  # filters have them in the history
