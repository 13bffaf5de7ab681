"""What is to be scored: candidates, splits, and the units that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.base import is_classifier
from sklearn.model_selection import check_cv

from optomatic import _sklearn
from optomatic.errors import RandomnessUnseeded, shown
from optomatic.fitting.request import Request
from optomatic.keys.travelling import shipping
from optomatic.plan.candidates.grids import candidates_of
from optomatic.plan.course.proposing import up_to_repeats
from optomatic.plan.course.stopping import Budget
from optomatic.plan.packing.bundle import Bundle
from optomatic.plan.units.fit_units import UnitPlanner
from optomatic.plan.units.limits import how_to_run
from optomatic.plan.units.plan import Plan
from optomatic.plan.units.splits import draws_anew, fix_splits
from optomatic.plan.units.tags import tags_of
from optomatic.planning.payload import Sender
from optomatic.warning import warn
from optomatic.worker.machine import inside_worker

# Candidates


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


# Splits


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


# Units


@dataclass(frozen=True, slots=True)
class Planned:
    """Candidates that are all known, and their units.

    Attributes
    ----------
    bundle : Bundle
    candidates : list of dict
    plan : Plan
    sender : Sender
        Of the payload that workers load.
    """

    bundle: Bundle
    candidates: list[dict[str, Any]]
    plan: Plan
    sender: Sender

    def place(self, unit_id: str) -> tuple[Mapping[str, Any], int]:
        """Return params and split of a unit."""
        candidate, split = self.plan.places[unit_id]
        return self.candidates[candidate], split


def plan_known(
    search: Any, request: Request, candidates: list[dict[str, Any]], splits: Sequence[Any]
) -> Planned:
    """Make the units of `candidates` and `splits`."""
    bundle = bundle_of(search, request, splits)
    with shipping(search.ship_modules):
        planner = UnitPlanner(
            bundle, requires=tags_of(search.requires), callbacks=request.inside_digest
        )
        plan = planner.plan(candidates)
    return Planned(bundle, candidates, plan, planner.sender)


def bundle_of(search: Any, request: Request, splits: Sequence[Any]) -> Bundle:
    """Return all that units share."""
    return Bundle(
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
    )
