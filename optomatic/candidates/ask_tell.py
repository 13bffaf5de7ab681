"""Ask a generator of any kind for candidates, and tell it their results.

=====================  ==========================================================================
generator              asked how
=====================  ==========================================================================
has ``ask(n)``         ``ask(n)`` or ``ask(n, history)`` returns up to `n` dicts.  None of them
                       means: not now, or never again if nothing is in flight.  Its optional
                       ``tell(evaluations)`` gets the candidates that have ended since.
a function             ``propose(history)`` or ``propose(history, n)`` returns a dict, up to `n`
                       of them, or None as above.  One without arguments returns an iterable.
iterable of dicts      in its order, no further than is needed
=====================  ==========================================================================

``history`` is a DataFrame of all candidates so far, with ``pending`` as the ``state`` of those in
flight.  The score of a candidate that racing stopped (``stopped``) is the mean over its splits,
there and in ``tell``.  An optional ``begin(directions)`` of a generator is called first: with a
dict of metric -> ``maximize`` or ``minimize``.

With ``warm_start`` scores of earlier searches come before the first ``ask``, as completed
evaluations whose ``number`` is below 0: -1 is told last and is the latest.  The generator was not
asked for these.  So it gets them by a method of its own, ``tell_earlier(evaluations)``, if it has
that.  ``tell_earlier = tell`` may do.  It may return how many it could use.  If it has a ``space``
(a dict of params, or a list of them), they have the params of that.  In ``history`` they are the
first rows, with ``earlier`` true.

A generator that never ends says so by ``endless = True``.  A search refuses it without ``n_iter``,
``time_budget``, ``target_score`` or ``n_no_improve``, unless it repeats another one by ``replay``.
Without ``n_iter`` a search also ends, with a warning, after ``NOTHING_NEW`` (1,000) candidates in a
row without a new one: filters left them out, or it had asked for them before.

Each ask and each tell decides what an adaptive generator proposes.  So they are recorded as
events, and a replay goes through them one by one: the generator sees the same, in any order of
scoring::

    ["earlier", ...]   scores of earlier searches, before all else (driver/warm_start.py)
    ["ask", 2]         it was asked for 2 candidates
    ["tell", [0, 3]]   it was told of the candidates 0 and 3, in this order

In a race (driver/search_state.py) there are also::

    ["racing", 3, 0.05, 5]     the first of all: min_splits, alpha, splits in all
    ["race", [0, 4], [1, 2]]   0 and 4 got one more split each; 1 and 2 were out (and are in
                               again if they get one later)
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import ceil
from typing import Any, Protocol

from optomatic.errors import GeneratorFailed, shown, warn
from optomatic.keys.digest import digest_of
from optomatic.records import Evaluation

#: Returns the history, which is made only on demand.
History = Callable[[], Any]
Directions = Mapping[str, str]
Event = list[Any]


#: A search asks no more after so many candidates in a row without a new one.
NOTHING_NEW = 1000
TRIED_BEFORE = "had all been tried before"
#: The effect of an error of a generator or a filter on the data.
STORED = "All finished units are stored, and queued ones are withdrawn."


def is_generator(space: Any) -> bool:
    """Return whether `space` is a generator of candidates, not a grid or a list of grids."""
    if isinstance(space, Mapping | list | tuple | str):
        return False
    return hasattr(space, "ask") or callable(space) or isinstance(space, Iterable)


def is_adaptive(space: Any) -> bool:
    """Return whether the candidates of `space` depend on results."""
    return is_generator(space) and (hasattr(space, "ask") or _wants_history(space))


def is_endless(space: Any) -> bool:
    """Return whether `space` says that it never ends."""
    return getattr(space, "endless", False) is True


def refuse_endless(space: Any, *, ends: bool) -> None:
    """Raise ValueError for a generator without an end, unless the search `ends` otherwise."""
    if is_endless(space) and not ends:
        raise ValueError(
            f"The generator {name_of(space)} never ends, and nothing ends the search. Nothing "
            "was queued. Give n_iter=, time_budget=, target_score= or n_no_improve=."
        )


def up_to_repeats(space: Any) -> Any:
    """Return an iterable that ends, with a warning, when it gives only repeats.

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
            warn_of_repeats(name_of(items), f"the last {repeated:,} candidates {TRIED_BEFORE}")
            return


def warn_of_repeats(name: str, reason: str) -> None:
    """Warn that a search ends because its generator gives nothing new."""
    warn(
        f"The generator {name} is asked no more, as it gave nothing new: {reason}. The search "
        "ends with the scores that it has. Give n_iter= to have repeats too, other filters, or "
        "a larger space.",
        UserWarning,
    )


def name_of(given: Any) -> str:
    """Return the name of a generator or a filter for errors."""
    return getattr(given, "__qualname__", None) or type(given).__qualname__


def proposer_for(space: Any, directions: Directions) -> Proposer:
    """Return a proposer that starts anew, with a copy of an object that has ``ask``.

    An iterator, such as a Python generator, continues where it is.
    """
    if hasattr(space, "ask"):
        generator = _begun(_copied(space), directions)
        with_history = _takes_second(generator.ask, "history")
        return Proposer(
            name_of(generator),
            lambda n, history: generator.ask(*((n, history()) if with_history else (n,))),
            tell=getattr(generator, "tell", None),
            tell_earlier=getattr(generator, "tell_earlier", None),
            sees_history=with_history,
        )
    if callable(space) and _wants_history(space):
        with_number = _takes_second(space, "n")
        return Proposer(
            name_of(space), lambda n, history: space(*((history(), n)[: 1 + with_number]))
        )
    name, given = name_of(space), space() if callable(space) else space
    items: Iterator[Any] = _guarded(name, lambda: iter(given))
    return Proposer(name, lambda n, _: list(islice(items, n)), adaptive=False)


def _copied(generator: Any) -> Any:
    try:
        return copy.deepcopy(generator)
    except Exception:  # of user code: use it without a copy
        return generator


def _begun(generator: Any, directions: Directions) -> Any:
    if hasattr(generator, "begin"):
        _guarded(name_of(generator), lambda: generator.begin(dict(directions)))
    return generator


def _wants_history(space: Any) -> bool:
    if not callable(space) or hasattr(space, "__iter__") or inspect.isgeneratorfunction(space):
        return False
    try:
        return bool(inspect.signature(space).parameters)
    except (TypeError, ValueError):
        return True


class Proposer:
    """A generator of any kind, with a ``name`` for errors.

    It is ``adaptive`` if its candidates depend on results: then it is asked as late as possible.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[int, History], Any],
        *,
        adaptive: bool = True,
        tell: Callable[[Sequence[Evaluation]], Any] | None = None,
        tell_earlier: Callable[[Sequence[Evaluation]], Any] | None = None,
        sees_history: bool = True,
    ) -> None:
        self.name, self.adaptive = name, adaptive
        self._ask, self._tell, self._tell_earlier = ask, tell, tell_earlier
        self._sees_history = sees_history

    def ask(self, n: int, history: History) -> list[dict[str, Any]]:
        """Return up to `n` candidates.

        Raises GeneratorFailed for any error of the generator, and for anything but dicts.
        """
        given = _guarded(self.name, lambda: self._ask(n, history))
        if given is None:
            return []
        items = [given] if isinstance(given, Mapping) else given
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise _nonsense(self.name, items)
        found = _guarded(self.name, lambda: list(items))
        for item in found:
            if not isinstance(item, Mapping) or not all(isinstance(key, str) for key in item):
                raise _nonsense(self.name, item)
        return [dict(item) for item in found]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Pass on the results of candidates, each once."""
        tell = self._tell
        if tell is not None:
            _guarded(self.name, lambda: tell(list(evaluations)))

    def tell_earlier(self, evaluations: Sequence[Evaluation]) -> int:
        """Pass on results of earlier searches; return how many the generator could use."""
        tell = self._tell_earlier
        if tell is None:  # it, or filters, may have them in the history
            return len(evaluations) if self._sees_history else 0
        used = _guarded(self.name, lambda: tell(list(evaluations)))
        return used if isinstance(used, int) else len(evaluations)


def _guarded(name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # of user code
        raise GeneratorFailed(
            f"The generator {name} raised {type(error).__name__}: {error}. {STORED} Fix it and "
            "search again: no stored unit is scored twice."
        ) from error


def _nonsense(name: str, item: Any) -> GeneratorFailed:
    return GeneratorFailed(
        f"The generator {name} gave {shown(item)} ({type(item).__name__}), which is no candidate. "
        f"{STORED} A candidate is a dict of params by name."
    )


def _takes_second(function: Any, name: str) -> bool:
    """Return whether `function` has a second argument, called `name` or without a default."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # without a signature
        return False
    if len(parameters) < 2:
        return False
    second = parameters[1]
    return second.name == name or second.default is inspect.Parameter.empty


# -- events ----------------------------------------------------------------------------------------


class Deciding(Protocol):
    """The race of a search decides which candidates get further splits."""

    def is_ready(self, number: int) -> bool:
        """Return whether a candidate can be judged."""

    def decide(self, *, all_known: bool) -> Event | None:
        """Return a decision, None if there is none now."""


class Live:
    """The events of a new search: tell results at once, ask as late as keeps workers busy.

    `ahead` returns how many units should be queued or running; a candidate has `n_splits` of them.
    At most `budget` candidates are asked for, of a `sized` list all, repeats included.  Once it is
    ``exhausted`` nothing more is asked for; ``reason`` is empty if the generator ended by itself.
    """

    def __init__(
        self, ahead: Callable[[], int], n_splits: int, budget: int | None, *, sized: bool = False
    ) -> None:
        self._ahead = ahead
        self._n_splits = n_splits
        self._budget = self._left = budget
        self._sized = sized
        self._in_vain = self._repeated = 0
        #: Units that were open at an ask without a new candidate; 0 after others.
        self._open_then = 0
        self.exhausted = False
        self.reason = ""

    def next(
        self, untold: Sequence[int], open_units: int, race: Deciding | None = None
    ) -> Event | None:
        """Return the event that is due, None to wait.

        `untold` are candidates that have ended and that the generator was not told of.
        """
        if untold:
            if open_units < self._open_then:  # the generator is told of units in flight
                self._open_then = 0
            return ["tell", list(untold)]
        decided = None if race is None else race.decide(all_known=self.exhausted)
        if decided is not None:
            return decided
        if self.exhausted or (self._open_then and open_units):
            return None
        wanted = self._ahead() - open_units
        return ["ask", self._at_most(ceil(wanted / self._n_splits))] if wanted > 0 else None

    def _at_most(self, n: int) -> int:
        return n if self._left is None else min(n, self._left)

    def given(self, count: int, open_units: int, *, adaptive: bool, kept: int, new: bool) -> None:
        """Note the result of the last ``ask``: `count` candidates, of which filters `kept` some.

        `new` is false if the search had asked for all of them before.  Results of open units may
        change what an `adaptive` generator answers.
        """
        if self._left is not None:
            self._left -= count
        self._count_in_vain(count, kept, new)
        gives_nothing = not count or self._in_vain >= NOTHING_NEW
        hears_more = adaptive and open_units > 0
        if self._left == 0:
            self.exhausted = True
        elif gives_nothing and not hears_more:
            self.exhausted = True
            self.reason = self._why() if count else ""
        waits = gives_nothing or (kept > 0 and not new)
        self._open_then = open_units if hears_more and waits else 0

    def _count_in_vain(self, count: int, kept: int, new: bool) -> None:
        """Count useless candidates in a row; with `n_iter` repeats are not useless."""
        brings_nothing = not new if self._budget is None else not kept
        if self._sized or not brings_nothing:
            self._in_vain = self._repeated = 0
        else:
            self._in_vain += count
            self._repeated += kept

    def _why(self) -> str:
        if not self._repeated:
            how = "were all left out"
        elif self._repeated == self._in_vain:
            how = TRIED_BEFORE
        else:
            how = "were all left out or had been tried before"
        return f"the last {self._in_vain:,} candidates {how}"


class Recorded:
    """The events of an earlier search, one by one."""

    reason = ""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)
        self._done = 0
        asks = [place for place, event in enumerate(events) if event[0] == "ask"]
        self._last_ask = max(asks, default=-1)

    @property
    def exhausted(self) -> bool:
        """Return whether nothing more was asked."""
        return self._done > self._last_ask

    def next(
        self, untold: Sequence[int], open_units: int, race: Deciding | None = None
    ) -> Event | None:
        """Return the next event once all its candidates have ended, as :meth:`Live.next`.

        After the last event, candidates still in the race are judged as in a new search.
        """
        if self._done == len(self._events):
            return None if race is None else race.decide(all_known=True)
        event = self._events[self._done]
        if event[0] == "tell" and not set(event[1]) <= set(untold):
            return None
        if event[0] == "race":
            assert race is not None  # the events of another race are refused
            if not all(map(race.is_ready, (*event[1], *event[2]))):
                return None
        self._done += 1
        return event

    def given(self, count: int, open_units: int, *, adaptive: bool, kept: int, new: bool) -> None:
        """Do nothing; see :meth:`Live.given`."""
