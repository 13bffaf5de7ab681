"""MongoSearchCV: have candidates scored, tabulate them, refit the best."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from optomatic import _sklearn
from optomatic.candidates.filters import Filter
from optomatic.candidates.racing import Racing
from optomatic.driver.driver import rather
from optomatic.errors import BriefTraceback
from optomatic.search.fit_request import Call, FitRequest, Tabulated, check, search_and_refit
from optomatic.search.pickling import Kept
from optomatic.search.shared_methods import StoredSearch

_LIMITS = ("time_budget", "target_score", "n_no_improve")
#: Params that say how units are run.
HOW_TO_RUN = ("fit_timeout", "memory_limit", "requires", "inner_max_num_threads", "ship_modules")
OURS = ("db", "name", "definition", "retry_failed", "reuse_prefixes", *HOW_TO_RUN)


class MongoSearchCV(StoredSearch, _sklearn.WithMoreHTML, Kept, _sklearn.BaseSearchCV):  # type: ignore[misc]  # it has no types
    """Search over parameters with cross-validation, every score kept in MongoDB.

    Each (candidate, split) is a job that any worker on any machine can claim.  A stored score
    serves every later search with the same effective estimator, data, split and scorer.  So an
    interrupted search goes on, and an extended one computes only what is new.

    Parameters
    ----------
    estimator : estimator object
        As in :class:`~sklearn.model_selection.GridSearchCV`.
    param_grid : dict, list of dict, or iterable of dict, default=None
        The space to search, as GridSearchCV takes it or as RandomizedSearchCV does: with
        `n_iter`, or if a value has ``rvs``, candidates are drawn from it; otherwise all
        combinations are tried.  Values may be Series too.  An iterable that is no list or
        tuple of grids (a ParameterGrid, a ParameterSampler, a generator) gives the
        candidates themselves, of which `n_iter` are taken, by default all.  What an iterator
        gives is remembered: each fit, and each clone, gets all of it.  So does an adaptive
        generator (:mod:`optomatic.generators`), which is asked for `n_iter` candidates as units
        finish; each fit begins with a copy of it.
    param_distributions : dict, list of dict, or iterable of dict, default=None
        The same, always drawn from.  Exactly one of the two spaces is given.
    n_iter : int, default=None
        Number of candidates to draw; 10 if the space is sampled and this is None.
    scoring, refit, cv, error_score, return_train_score
        As in :class:`~sklearn.model_selection.GridSearchCV`.
    verbose : int, default=0
        From 1 on a header and a line that sums up are printed, and one live line on the standard
        error stream shows how far the search is: what is done, stored and failed, workers, rate,
        time left, the best so far; uploads of 100 MB and more, too.  Where that stream is no
        terminal, a plain line comes every 30 s.  In a notebook a bar and the grid of candidates x
        splits are updated instead.  From 2 on ``[CV]`` lines are printed as in
        :class:`~sklearn.model_selection.GridSearchCV`, as units finish, whoever scores them; those
        of stored units follow at the end.  The header says ``up to`` where filters, racing, a
        budget or a generator may leave some out.  0 shows nothing but warnings.
    n_jobs : int, default=None
        None or 1 scores in this process; k in k local worker processes that stay warm
        between fits; -1 in one a core; 0 leaves all to standalone workers
        (``optomatic worker --db URI``), which may help in every case.
    pre_dispatch : int or str, default='2*n_jobs'
        As in :class:`~sklearn.model_selection.GridSearchCV`, without effect: the queue needs
        no such limit.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws from the space; grids have none.
    filters : sequence of callable, default=None
        Each gets candidates (list of dict) and history (DataFrame), and returns one answer a
        candidate: True keeps it; False, or a text that is the reason, leaves it out
        (:mod:`optomatic.filters` has some).
    time_budget : float, default=None
        Seconds after which the search for candidates ends: what is queued is withdrawn at
        once, what runs gets 5 s (with ``n_jobs=None`` it finishes), and candidates all of
        whose splits are scored make ``cv_results_``.  Then the best is refitted.
    target_score : float, default=None
        The search ends with the first candidate whose mean test score is as good.
    n_no_improve : int, default=None
        The search ends after so many candidates in a row that are no better than the best.
    racing : bool or Racing, default=None
        Whether a candidate that is clearly behind after some splits gets no further ones, and
        when: :class:`~optomatic.Racing` has the test and its source.  Its row of
        ``cv_results_`` has NaN for splits that it did not get, means over those that it did,
        ranks behind every complete row, and its number of splits as ``stopped_after`` (NaN in
        complete rows).  True is ``Racing()``.
    replay : str, default=None
        Id or name of an earlier search on `db`: an adaptive generator is asked and told as it
        was then, so that it proposes the same candidates, however many workers there are.
    warm_start : bool, str or list of str, default=False
        Whether scores of earlier searches on `db` are told to an adaptive generator before it is
        asked for the first time, and to filters: True takes those of all searches, a name
        or id (or several) those of one.  They count if they are of the same data, scorer and
        versions, and of an estimator that a candidate makes of this one; whatever the splits,
        if models were fitted on half as many rows as here or more; 1,000 candidates at most, the
        latest.  They are the beginning of what is learned, and no rows of ``cv_results_``.
        Spaces that do not learn (grids, draws) are searched as without: what is stored is
        not scored again anyway.
    db : str, default=None
        MongoDB URI, with the database's name as its path (``mongodb://host/iris``).
        None reads ``$OPTOMATIC_DB``; without that, a private embedded server is used.
    name : str, default=None
        Name of the search in the database.
    definition : str or path, default=None
        Name of a search definition file, as in :class:`MongoSearch`: workers in its directory
        work off the searches that stand there.  The search needs a `name` for that.
    retry_failed : bool, default=False
        Score units again whose stored end is a failure of the estimator, or that were
        given up after killing three workers.
    fit_timeout : float, default=None
        Seconds that a unit may take to be fitted and scored, loading apart.  One that is not
        done then is ended and gets `error_score`.
    memory_limit : int or str, default=None
        Bytes, or a size such as ``"500MB"``: how much memory the process that scores a unit
        and all that it starts may hold for themselves, of which Python with scikit-learn
        takes about 100 MB and data that is an array of numbers nothing.  A unit that
        takes more is ended and gets `error_score`.  With either limit ``n_jobs=None`` scores in
        one local worker process instead of this one.
    requires : set of str, default=None
        Only workers that carry all these tags score the search
        (``optomatic worker --tag gpu``).  Local workers carry those in ``$OPTOMATIC_TAG``; if
        that does not do, `fit` leaves all to standalone workers, whatever `n_jobs` is.
    inner_max_num_threads : int, default=None
        Threads that numeric libraries (BLAS, OpenMP) may use in each process that scores.
        None shares the cores of a machine out among the processes of a worker.
    ship_modules : list of str or module, default=None
        User modules whose code travels to workers, instead of all: ``[]`` is none.  All others
        must be there, with the same files.  None sends what belongs to no installed distribution
        (helper modules, packages beside a script, editable installs) but for packages with
        compiled extensions.  ``__main__`` and notebooks always travel, installed packages never.
    reuse_prefixes : bool, default=True
        Fit the first steps of a pipeline once for all fits on a machine that share them, those of
        earlier searches included.  It is done where it is certain that the scores stay the same,
        and where it saves time.  It needs a :class:`~sklearn.pipeline.Pipeline` whose `memory` is
        None, and steps with a fixed `random_state`, if they have one.  What is kept counts to the
        size of the workers' cache (``$OPTOMATIC_CACHE_SIZE``).

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, \
    n_splits_, refit_time_, multimetric_, classes_, n_features_in_, feature_names_in_
        As in :class:`~sklearn.model_selection.GridSearchCV`.  Times of stored units are
        those measured when they were scored.  A column ``prefix_time_saved`` has the seconds that
        each candidate saved by the reuse of first steps, if any did.
    summary_ : FitSummary
        How many units were stored, scored and failed, by how many workers, in how many
        seconds; its ``str`` is the line that ``verbose`` prints.
    search_id_ : str
        Id of this fit's record in the database.

    Notes
    -----
    A stored score serves a unit with the same effective estimator, data, split, scorer and params
    of fit, by the same versions of the libraries.  Everything that a pickle of these carries
    counts, user code and the globals that it can reach included.  What does not count stands in
    :mod:`optomatic.keys.not_counted`: ``n_jobs``, ``verbose`` and ``memory`` of scikit-learn's
    estimators (but ``n_jobs`` where each job draws for itself), docstrings, line numbers, the
    order of metrics, the memory layout of 2-D arrays.
    What cannot be seen does not count either: files and environment variables that a function
    reads, the content of files passed by name, ``eval`` and ``globals()[...]``, methods of
    installed classes patched at run time, ``np.seterr`` and other switches of whole libraries,
    and random state that units share.  What can be seen not to be certain is scored for this
    search only, with a :class:`~optomatic.errors.KeyNotCertain` warning that names it.

    A splitter that shuffles without a seed is asked once a fit, which is said by a
    :class:`~optomatic.errors.RandomnessUnseeded` warning, as nothing stored can be reused
    then.  Of an estimator without ``random_state`` nothing is said: its scores are one draw,
    and a stored draw serves later fits.

    A fitted search is pickled without the credentials in `db` and without training data, and
    predicts where no database is.  To fit it (or a clone) there, give the address by
    ``$OPTOMATIC_DB`` or ``set_params(db=...)``.  One that is not fitted yet is pickled with
    its `db`, so that it works in other processes; if such pickles are kept, leave `db` out and
    set ``$OPTOMATIC_DB``.  Copies (:mod:`copy`) keep all.

    A generator that is ``endless`` needs one of `n_iter`, `time_budget`, `target_score` and
    `n_no_improve`.  Without `n_iter` the search also ends, with a warning, once 1,000 candidates
    in a row were left out or had been tried before, and nothing is in flight that the generator
    could learn from.  With `n_iter` repeats count as candidates and have rows of their own.

    With racing over a space whose candidates are all known, all in the race get a split before
    any gets the next one, so the table is the same whoever scores, and however much is stored; but
    before the last split nothing is complete that Ctrl-C could leave in ``cv_results_``.  With
    an adaptive generator, `filters` or a budget each candidate is judged as soon as its own
    splits are scored, against the best of that moment, and `replay` repeats what came of it.
    Of several metrics the one that `refit` names decides.

    Inside of a worker (as the estimator of another search, say) a search scores all of its
    units there, one after the other and without a store: the address of the database does not
    travel to workers, and what is stored is what comes of the whole.

    scikit-learn's callbacks are told of each unit once, in the thread that calls ``fit``; with an
    adaptive generator, `filters`, a budget, `racing` or `replay` as candidates come about.  See
    :mod:`optomatic.search.unit_callbacks`.

    Several fits may run at the same time, in any number of processes, on one database: a
    unit that two of them want is scored once.  After a crash, Ctrl-C or ``kill -9``, the
    next equal fit computes only what is missing.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from optomatic import MongoSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = MongoSearchCV(SVC(), {"C": [0.1, 1, 10]}).fit(X, y)  # doctest: +SKIP
    >>> search.best_params_  # doctest: +SKIP
    {'C': 1}
    """

    __module__ = "optomatic"  # its public name, in pickles too, wherever it stands

    #: Of which search this is an iteration, and what columns its candidates have for that.
    _part: tuple[str | None, Mapping[str, Any]] = (None, {})

    _parameter_constraints: dict[str, Any] = {
        **_sklearn.BaseSearchCV._parameter_constraints,
        "param_grid": [dict, list, Iterable, _sklearn.ASKS, callable, None],
        "param_distributions": [dict, list, Iterable, _sklearn.ASKS, callable, None],
        "n_iter": [_sklearn.POSITIVE_INTEGER, None],
        "random_state": ["random_state"],
        "filters": [list, tuple, None],
        "racing": ["boolean", Racing, None],
        "replay": [str, None],
        "warm_start": ["boolean", str, list, tuple],
        "name": [str, None],
        "definition": [str, os.PathLike, None],
        "retry_failed": ["boolean"],
        "reuse_prefixes": ["boolean"],
        # Checked where they are used, with an error that says what to do.
        **dict.fromkeys(("db", *_LIMITS, *HOW_TO_RUN), "no_validation"),
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any = None,
        *,
        param_distributions: Any = None,
        n_iter: int | None = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        filters: Sequence[Filter] | None = None,
        time_budget: float | None = None,
        target_score: float | None = None,
        n_no_improve: int | None = None,
        racing: bool | Racing | None = None,
        replay: str | None = None,
        warm_start: bool | str | Sequence[str] = False,
        db: str | None = None,
        name: str | None = None,
        definition: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        fit_timeout: float | None = None,
        memory_limit: int | str | None = None,
        requires: Collection[str] | None = None,
        inner_max_num_threads: int | None = None,
        ship_modules: Collection[str | ModuleType] | None = None,
        reuse_prefixes: bool = True,
    ) -> None:
        self._keep(locals())

    def _search_id(self) -> str:
        check_is_fitted(self, "search_id_")
        return str(self.search_id_)

    def _html_below(self) -> str:
        return self._stored_html() if hasattr(self, "search_id_") else ""

    @_sklearn.fit_context  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> MongoSearchCV:
        """Score every candidate on every split, then refit the best.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Training data, or a precomputed kernel or distance matrix.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Target.
        **params : dict of str -> object
            Passed to the estimator's ``fit``, the scorer and the splitter as in
            :class:`~sklearn.model_selection.GridSearchCV`.

        Returns
        -------
        self : MongoSearchCV

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C.  What is complete makes ``cv_results_`` all the same, and the best of
            that is refitted before (another Ctrl-C leaves that out); if nothing was
            complete, no attribute is set.
        StoreError
            If the database cannot be used, within 10 s at the start and a minute later.
        DefinitionError
            If `definition` cannot be used, or is of another database.
        NotShippable
            With workers, if the estimator, scorer or data cannot be pickled.
        OtherCode
            If local workers load something else than they were sent, as a file was edited.
        GeneratorFailed, FilterFailed
            If one of them raises, or gives what cannot be used.
        SearchCancelled
            If somebody withdrew the search (``attach(...).cancel()``).
        ValueError, TypeError
            scikit-learn's own for bad parameters, data or spaces.  ValueError also for a
            generator that is ``endless`` if `n_iter`, `time_budget`, `target_score` and
            `n_no_improve` are all left out.
        """
        with BriefTraceback():
            call = check(self, X, y, params)
            search_and_refit(call, self._search)
        return self

    def _search(self, call: Call) -> Tabulated:
        """Have the candidates scored, and tabulate them."""
        request = FitRequest(call)
        candidates = None if request.is_open() else request.known_candidates()
        request.split(call.splits())
        request.score(candidates)
        with rather(request.interrupt):
            rows = request.rows()
        request.report()
        return request.results(rows), rows[0]["test_scores"], request.interrupt
