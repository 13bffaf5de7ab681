"""What one call of ``fit`` asks for: checked params, candidates, splits and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import indexable

from optomatic import _sklearn
from optomatic.candidates.ask_tell import up_to_repeats
from optomatic.candidates.grids import candidates_of
from optomatic.candidates.stopping import Budget
from optomatic.driver.recording import check_name
from optomatic.errors import RandomnessUnseeded, shown, warn
from optomatic.keys.digest import Digest, digest_of
from optomatic.keys.environment import shipping
from optomatic.planning.constraints import how_to_run, tags_of
from optomatic.planning.payload import Sender
from optomatic.planning.planner import Plan, Planner
from optomatic.planning.splits import draws_anew, fix_splits
from optomatic.planning.workload import FitWorkload
from optomatic.worker.host import inside_worker


@dataclass(frozen=True, slots=True)
class Request:
    """One call of fit, checked: what scikit-learn's own search holds in local variables.

    Attributes
    ----------
    base : estimator
        A clone of the search's, never fitted.
    callbacks : callback context
        Of the fit as a whole.
    inside : sequence of callback
        Those that are called inside of the fits, and what stands for them in keys.
    """

    X: Any
    y: Any
    scorers: Any
    refit_metric: Any
    routed: Any
    base: Any
    callbacks: Any
    metadata: Mapping[str, Any] | None
    inside: Sequence[Any]
    inside_digest: Digest | None

    @property
    def scorer(self) -> Any:
        """One scorer, or several by name."""
        return _sklearn.scorers_by_name(self.scorers) or self.scorers


def check(search: Any, X: Any, y: Any, params: Mapping[str, Any]) -> Request:
    """Check and route everything as scikit-learn's fit does, in its order."""
    check_name(search.name)
    scorers, refit_metric = search._get_scorers()
    X, y = indexable(X, y)
    params = _sklearn.check_method_params(X, params=params)
    routed = search._get_routed_params_for_fit(params)
    weight = params.get("sample_weight")
    metadata = None if weight is None else {"sample_weight": weight}
    is_classifier(search.estimator)  # refuses a class, in scikit-learn's words
    base = clone(search.estimator)
    # Before any hook runs: what a callback is like then depends on nothing but the user.
    inside = _sklearn.callbacks_inside_fits(search)
    inside_digest = digest_of(list(inside), "callbacks") if inside else None
    callbacks = _sklearn.callback_context(search, max_subtasks=1 + (search.refit is not False))
    callbacks.call_on_fit_task_begin(estimator=search, X=X, y=y, metadata=metadata)
    return Request(
        X,
        y,
        scorers,
        refit_metric,
        routed,
        base,
        callbacks,
        metadata,
        inside,
        inside_digest,
    )


def space_of(search: Any) -> Any:
    """Return the one space that is given.

    Raises
    ------
    ValueError
        If it is not one.
    """
    for name in ("param_grid", "param_distributions"):
        space = getattr(search, name)
        if isinstance(space, str | bytes | type):  # iterable or callable, and no space
            raise _sklearn.InvalidParameterError(
                f"The {name!r} parameter of {type(search).__name__} must be an instance of 'dict', "
                "an instance of 'list', an iterable of dicts or a generator. "
                f"Got {shown(space)} instead."
            )
    if (search.param_grid is None) == (search.param_distributions is None):
        raise ValueError(
            "Give exactly one of param_grid and param_distributions; "
            f"{'neither was' if search.param_grid is None else 'both were'} given."
        )
    return search.param_distributions if search.param_grid is None else search.param_grid


def budget_of(search: Any) -> Budget:
    """Return what ends the search early."""
    return Budget(search.time_budget, search.target_score, search.n_no_improve)


def known_candidates(search: Any) -> list[dict[str, Any]]:
    """Return all candidates of a space that does not learn."""
    space = space_of(search)
    return candidates_of(
        up_to_repeats(space) if search.n_iter is None else space,
        n_iter=search.n_iter,
        sampled=search.param_grid is None,
        random_state=search.random_state,
    )


def splitter_of(search: Any, request: Request) -> Any:
    """Return the splitter; note on the search how many splits it makes."""
    X, y, split_params = request.X, request.y, request.routed.splitter.split
    splitter = check_cv(search.cv, y, classifier=is_classifier(search.estimator))
    search._checked_cv_orig = splitter
    search.n_splits_ = splitter.get_n_splits(X, y, **split_params)
    return splitter


def splits_of(search: Any, request: Request) -> list[Any]:
    """Ask the splitter once; say it if another fit would get other splits."""
    splitter = splitter_of(search, request)
    if draws_anew(splitter) and not inside_worker():
        _warn_that_splits_are_a_draw(splitter)
    return split_by(splitter, search, request)


def split_by(splitter: Any, search: Any, request: Request) -> list[Any]:
    """Return the (train, test) pairs that `splitter` makes of the data."""
    split_params = request.routed.splitter.split
    return fix_splits(splitter.split(request.X, request.y, **split_params), search.n_splits_)


def _warn_that_splits_are_a_draw(cv: Any) -> None:
    """Say it: unlike a random estimator, whose stored score serves, it makes a store useless."""
    warn(
        f"cv={cv!r} shuffles without a seed. Its splits were drawn once, and all candidates are "
        "scored on the same; but each fit draws others, so it can reuse no stored score, and "
        "after an interruption it begins anew. Give it a random_state=.",
        RandomnessUnseeded,
    )


@dataclass(frozen=True, slots=True)
class Planned:
    """Candidates that are all known, and their units.

    Attributes
    ----------
    bundle : FitWorkload
    candidates : list of dict
    plan : Plan
    sender : Sender
        Of the payload that workers load.
    """

    bundle: FitWorkload
    candidates: list[dict[str, Any]]
    plan: Plan
    sender: Sender
    places: dict[str, tuple[int, int]]

    def place(self, unit_id: str) -> tuple[Mapping[str, Any], int]:
        """Return params and split of a unit."""
        candidate, split = self.places[unit_id]
        return self.candidates[candidate], split


def plan_known(
    search: Any, request: Request, candidates: list[dict[str, Any]], splits: Sequence[Any]
) -> Planned:
    """Make the units of `candidates` and `splits`."""
    bundle = bundle_of(search, request, splits)
    with shipping(search.ship_modules):
        planner = Planner(bundle, requires=tags_of(search.requires))
        plan = planner.plan(candidates)
    places: dict[str, tuple[int, int]] = {}
    for number, unit_id in enumerate(plan.ids):
        places.setdefault(unit_id, divmod(number, len(splits)))
    return Planned(bundle, candidates, plan, planner.sender, places)


def bundle_of(search: Any, request: Request, splits: Sequence[Any]) -> FitWorkload:
    """Return all that units share."""
    return FitWorkload(
        estimator=request.base,
        X=request.X,
        y=request.y,
        splits=splits,
        scorer=request.scorer,
        fit_params=request.routed.estimator.fit,
        score_params=request.routed.scorer.score,
        options={
            "return_train_score": bool(search.return_train_score),
            "config": _sklearn.numeric_config(),
            **how_to_run(search.fit_timeout, search.memory_limit, search.inner_max_num_threads),
        },
        callbacks=request.inside_digest,
    )
