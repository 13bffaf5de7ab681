"""One call of ``fit``, ``run`` or ``submit``: the line on which its candidates are scored.

::

    candidates --planner--> units --driver--> ends --> state of the candidates

A request has the params of the user.  It has two forms, for fits and for functions, which record,
show and score candidates in this process.
"""

from __future__ import annotations

import getpass
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from joblib import effective_n_jobs

from optomatic import _config
from optomatic import definition as files
from optomatic._config import inside_worker
from optomatic.candidates.ask_tell import is_adaptive, is_generator, refuse_endless
from optomatic.candidates.grids import shown_space
from optomatic.candidates.racing import Racing
from optomatic.candidates.stopping import Stopping
from optomatic.driver.adaptive import AdaptiveDriver, Course
from optomatic.driver.driver import (
    Audience,
    Driver,
    FixedDriver,
    report_doubts,
    score_alone,
    tell_planned,
)
from optomatic.driver.executors import Executor
from optomatic.driver.following import Following, following, following_uploads
from optomatic.driver.search_state import Race, SearchState
from optomatic.driver.warm_start import check_named_at, earlier_evaluations, named
from optomatic.errors import (
    LONGEST_NAME,
    DefinitionError,
    KeyNotCertain,
    OptomaticError,
    StoreError,
    shown,
    warn,
)
from optomatic.keys.environment import required_versions
from optomatic.planning.constraints import how_to_run, tags_of
from optomatic.planning.planner import Planner
from optomatic.planning.workload import Workload
from optomatic.progress.cv_lines import Line, Lines
from optomatic.progress.tally import Tally
from optomatic.records import Outcome, SearchRecord
from optomatic.results.summary import FitSummary, opening_line
from optomatic.store.connection import OneStore, open_store
from optomatic.store.workers import this_process
from optomatic.worker.heartbeat import tags_here
from optomatic.worker.inprocess import InProcess


class Options(Protocol):
    """The params that all searches have in common, and what a request sets on them."""

    db: Any
    name: str | None
    definition: Any
    verbose: Any
    n_jobs: int | None
    n_iter: int | None
    random_state: Any
    filters: Any
    time_budget: float | None
    target_score: float | None
    n_no_improve: int | None
    replay: str | None
    warm_start: Any
    error_score: Any
    retry_failed: bool
    fit_timeout: float | None
    memory_limit: int | str | None
    requires: Any
    inner_max_num_threads: int | None
    ship_modules: Any
    search_id_: str
    summary_: FitSummary


W = TypeVar("W", bound=Workload)

#: Processes of one machine, which are each a Python with what it has imported.
_MOST = 4096


def _nothing_complete(summary: FitSummary) -> str:
    why = summary.stopped or summary.left_out or "the generator gave none"
    return (
        f"No candidate was completed ({why}), so there is nothing to choose from. Finished units "
        "are stored: search again, with more time or other filters, and it goes on from there."
    )


class Request(ABC, Generic[W]):
    """One call; see FitRequest and FunctionRequest for its two forms.

    `directions` are ``maximize`` or ``minimize`` by metric; `metric` decides among several.
    Requests of one call share `store`, which their caller closes.  At the end `state` has the
    outcomes, and `complete` the numbers of the candidates all of whose units have one;
    `interrupt` is the Ctrl-C that ended the search.
    """

    #: Splits as ``verbose`` shows them; None where there are none.
    shown_splits: int | None = None
    racing: Racing | None = None
    n_splits = 1
    audience: Audience | None = None
    #: Set when scoring begins.
    workers: int | None
    planner: Planner[W]
    state: SearchState
    following: Following
    #: Set when scoring has ended.
    complete: Sequence[int] = ()
    interrupt: KeyboardInterrupt | None = None

    def __init__(
        self,
        options: Options,
        space: Any,
        directions: Mapping[str, str],
        metric: str | None,
        store: OneStore,
    ) -> None:
        check_name(options.name)
        self.options, self.space, self.store = options, space, store
        self.directions, self.metric = directions, metric
        limits = options.time_budget, options.target_score, options.n_no_improve
        self.stopping = Stopping(*limits, self.direction)
        ends = options.n_iter is not None or options.replay is not None
        refuse_endless(space, ends=ends or self.stopping.limits_anything())

    @property
    def direction(self) -> str:
        """The direction of the metric that decides."""
        return self.directions.get(self.metric or "", next(iter(self.directions.values())))

    @property
    def is_lazy(self) -> bool:
        """Return whether candidates are taken as needed: the space may be endless, or learn."""
        sized = hasattr(self.space, "__len__")
        return is_adaptive(self.space) or (is_generator(self.space) and not sized)

    def is_decided_on_the_way(self) -> bool:
        """Return whether filters, racing, a budget or a replay may leave candidates out."""
        options = self.options
        limited = self.stopping.limits_anything() or self.racing is not None
        return bool(options.filters) or limited or options.replay is not None

    # -- what the forms say ----------------------------------------------------------------

    @abstractmethod
    def workload(self) -> W:
        """Return what is scored."""

    @abstractmethod
    def known_candidates(self) -> list[dict[str, Any]]:
        """Return all candidates of a space that does not learn."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return the fields of the record that the forms know."""

    @abstractmethod
    def executor(self, n_candidates: int | None) -> Executor:
        """Return the executor of the units; `n_candidates` is None if that is not known."""

    @abstractmethod
    def shown_metric(self) -> str | None:
        """Return the metric that ``verbose`` shows."""

    @abstractmethod
    def line(self, n_candidates: int | None) -> Line | None:
        """Return the function that writes the line of a unit, None if there are none."""

    def fixed_params(self) -> Mapping[str, Any]:
        """Return the params that all candidates have, if they do not say otherwise."""
        return {}

    def race(self) -> Race | None:
        """Return the race of the candidates, if there is one."""
        return None

    def begin(self, n_units: int | None) -> None:  # there need not be any
        """Notify callbacks that the search begins."""

    def end(self) -> None:
        """Notify callbacks that all is scored."""

    # -- what is said of how units are run ---------------------------------------------------

    def how_to_run(self) -> dict[str, Any]:
        """Return limits and threads of a unit; empty if there are none."""
        options = self.options
        return how_to_run(options.fit_timeout, options.memory_limit, options.inner_max_num_threads)

    def count_workers(self) -> int | None:
        """Return the number of local workers: None is this process, 0 is only standalone ones."""
        if inside_worker():
            return None
        options = self.options
        # Local workers carry the tags of $OPTOMATIC_TAG.
        if options.n_jobs == 0 or not set(tags_of(options.requires)) <= set(tags_here()):
            return 0
        k = int(effective_n_jobs(options.n_jobs))
        if k > _MOST:
            raise OverflowError(
                f"n_jobs is {shown(options.n_jobs)}, and one machine runs at most {_MOST:,} "
                "workers. Nothing was queued. n_jobs=-1 is one a core."
            )
        # A limit is held by ending the process that scores.
        limited = options.fit_timeout is not None or options.memory_limit is not None
        return None if k == 1 and not limited else k

    def new_planner(self) -> Planner[W]:
        """Return the maker of the units."""
        requires, ship_modules = tags_of(self.options.requires), self.options.ship_modules
        return Planner(self.workload(), requires=requires, ship_modules=ship_modules)

    def record(self, n_candidates: int) -> SearchRecord:
        """Return the record of the search, of what is planned so far; note its id."""
        record = new_record(
            self.options.name,
            space=self.space,
            n_candidates=n_candidates,
            n_splits=self.n_splits,
            signature=self.planner.signature,
            ingredients=self.planner.ingredients,
            **self.described(),
        )
        self.options.search_id_ = record.part_of or record.id
        return record

    # -- the line ----------------------------------------------------------------------------

    def score(self, candidates: Sequence[dict[str, Any]] | None = None) -> None:
        """Have `candidates` scored; without them those that come about meanwhile.

        Raise ValueError if no candidate was completed.
        """
        options = self.options
        # No cached properties: warnings name the line of the user that called this.
        self.workers, self.planner = self.count_workers(), self.new_planner()
        self.state = SearchState(None if self.racing is None else self.racing.min_splits)
        summary = self._score_open() if candidates is None else self._score_known(candidates)
        options.summary_ = summary
        if self.workers is None and summary.scored:
            report_moved(self.planner.sender.moved())
        self.complete = self.state.complete()
        if all(number in self.state.stopped for number in self.complete):
            self.report()
            raise self.interrupt or ValueError(_nothing_complete(summary))

    def report(self) -> None:
        """Notify callbacks that all is scored, and print the summary.

        A search that raises for a failed unit does not get here, as in GridSearchCV.
        """
        if self.interrupt is None:
            self.end()
        self.following.print_rest()
        if self.options.verbose > 0:
            print(self.options.summary_)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of the complete candidates, candidate-major."""
        return [outcome for n in self.complete for outcome in self.state.outcomes_of(n)]

    def leave(self, candidates: Sequence[dict[str, Any]]) -> None:
        """Queue the units of `candidates` without a score, and do not wait."""
        options, self.planner = self.options, self.new_planner()
        check_named_at(options.db, options.warm_start)
        plan = self.planner.plan(candidates, whole=True)
        report_doubts(plan.doubts, plan.refusal, 0)
        self.following, self.state = following_uploads(options.verbose), SearchState()
        self._define()
        with self.store as one:
            record = self.record(len(candidates))
            FixedDriver(one.open(), record, self.state, plan, **self._how()).leave()

    def _score_known(self, candidates: Sequence[dict[str, Any]]) -> FitSummary:
        options, count = self.options, len(candidates)
        self._announce(count)
        check_named_at(options.db, options.warm_start)
        plan = self.planner.plan(candidates, whole=True)
        report_doubts(plan.doubts, plan.refusal, self.workers)
        self.state.add(plan.candidates, plan.units)
        tell_planned(plan.candidates, self.following, self.audience)
        executor = self.executor(count)
        self._define()
        record = self.record(count)
        if inside_worker() and isinstance(executor, InProcess):
            return score_alone(self.state, executor)
        driver = FixedDriver(self.store.open(), record, self.state, plan, **self._how())
        return self._run(driver, executor)

    def _score_open(self) -> FitSummary:
        refuse_inside_worker()
        options, course, state = self.options, self._course(), self.state
        race = self.race()
        most, exact = course.most(raced=self.racing is not None)
        self._announce(most, exact=exact, grows=True)
        planner, space = self.planner, getattr(self.space, "space", None)
        store = self.store.open()
        names = named(store, options.warm_start)
        driver = AdaptiveDriver(
            store,
            self.record(0),
            state,
            planner,
            course,
            workers=self.workers,
            at_once=min(state.first or self.n_splits, self.n_splits),
            race=race,
            earlier=lambda: earlier_evaluations(store, names, planner, space, self.fixed_params()),
            **self._how(),
        )
        self._define()
        return self._run(driver, lambda: self.executor(None))

    def _how(self) -> dict[str, Any]:
        """Return what both drivers take."""
        return {
            "retry_failed": self.options.retry_failed,
            "following": self.following,
            "audience": self.audience,
        }

    def _run(self, driver: Driver, given: Any) -> FitSummary:
        summary = driver.run(given)
        self.interrupt = driver.interrupt
        return summary

    def _course(self) -> Course:
        lazy = self.is_lazy
        return Course(
            space=self.space if lazy else self.known_candidates(),
            directions=self.directions,
            metric=self.metric,
            filters=self.options.filters or (),
            stopping=self.stopping,
            n_iter=self.options.n_iter if lazy else None,
            replay=self.options.replay,
        )

    def _announce(
        self, n_candidates: int | None, *, exact: bool = True, grows: bool = False
    ) -> None:
        """Print the first line, tell callbacks; begin to follow the search."""
        verbose = self.options.verbose
        most = None if n_candidates is None else n_candidates * self.n_splits
        if verbose > 0:
            print(opening_line(n_candidates, exact=exact, n_splits=self.shown_splits))
        self.begin(most)
        self.following = following(
            verbose,
            lambda: Tally(
                metric=self.shown_metric(),
                direction=self.direction,
                most=most,
                exact=exact,
                grows=grows,
            ),
            lambda: Lines(self.line(n_candidates)),
        )

    def _define(self) -> None:
        define(self.options.definition, self.options.name, self.options.db)


# -- checks before units are queued ---


def refuse_inside_worker() -> None:
    """Raise OptomaticError in a process that scores for a worker: it has no store of its own."""
    if inside_worker():
        raise OptomaticError(
            "A search with a generator, filters, a budget, racing or replay keeps its course in "
            "the store, and a process that scores for a worker has none. Nothing was scored. "
            "Inside of what is scored use a search over a grid or over draws."
        )


def report_moved(moved: str | None) -> None:
    """Warn that scoring has changed what the search is made of, at a path, if it has."""
    if moved is not None:
        warn(
            f"`{moved}` changed while units were scored in this process, and scores may depend on "
            "it. They are stored as those of its state before; a later fit in this process has "
            "another one, and scores again. Have nothing in it that scoring changes, or pass it "
            "as a parameter.",
            KeyNotCertain,
        )


# -- the record and the definition file of a search ---


def define(definition: str | os.PathLike[str] | None, name: str | None, db: str | None) -> None:
    """Write a search into its definition file, if it is to stand in one.

    Raise DefinitionError if it has no name, or the file cannot be used or is of another database.
    """
    if definition is None or inside_worker():
        return
    path = files.path_of(definition)
    if not name:
        raise DefinitionError(
            f"A search that is to stand in {path} needs a name: by it workers know the search, "
            "and it stands there once, however often the driver runs. Nothing was queued. Give "
            "name=, such as name='trees'."
        )
    with open_store(db):
        files.add(path, name, _config.setting(_config.DB) if db is None else db)


def check_name(name: object) -> None:
    """Raise TypeError or ValueError if `name` is no string, or too long for a search."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is a string, not {shown(name)}. Nothing was queued.")
    if name is not None and len(name) > LONGEST_NAME:
        raise ValueError(
            f"name has {len(name):,} characters ({shown(name[:40])}...), and a search's name has "
            f"at most {LONGEST_NAME:,}. Nothing was queued. Choose a shorter one."
        )


#: Seconds to wait for a database that is away, to note a choice that the table tells, too.
_NOTE_SECONDS = 8.0


def record_best(one: OneStore, search: str, index: int, score: float | None, metric: str) -> None:
    """Note which candidate a search has chosen; `index` is its row in the table.

    Without that note the choice is told from the table, but for the choice of a function.
    """
    if inside_worker():
        return
    best = {
        "index": int(index),
        "score": None if score is None else float(score),
        "metric": metric,
    }
    with suppress(StoreError):
        store = one.open()
        store.hurry(_NOTE_SECONDS)
        store.searches.note_best(search, best)


def new_record(
    name: str | None, kind: str, *, space: Any, n_splits: int, **fields: Any
) -> SearchRecord:
    """Return the record of a search of this process, with a random id.

    Without a `name` it is `kind` and the beginning of the id.  For `fields` see
    :class:`~optomatic.records.SearchRecord`; ``n_candidates`` is 0 if it is not known yet.
    """
    search = secrets.token_hex(12)
    return SearchRecord(
        id=search,
        name=name or f"{kind}-{search[:6]}",
        space=shown_space(space),
        n_splits=n_splits,
        env=required_versions({}),
        process=this_process(),
        user=_user(),
        **fields,
    )


def _user() -> str:
    """Return the name of the user, empty where this process has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
