"""Our searches under the names and the signatures of scikit-learn's.

scikit-learn's own tests are run with these: :func:`imported_with_ours` executes an installed
test module once more, with these classes where it would find GridSearchCV, RandomizedSearchCV
and the two of successive halving.  Nothing of scikit-learn's is copied, and nothing stays patched.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest
import sklearn.model_selection
import sklearn.utils
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import _search_successive_halving

from optomatic import MongoHalvingGridSearchCV, MongoHalvingRandomSearchCV, MongoSearchCV


def _constraints_of(theirs):
    """What MongoSearchCV allows for the parameters that scikit-learn's search has too."""
    names = inspect.signature(theirs).parameters
    return {name: MongoSearchCV._parameter_constraints[name] for name in names}


class GridSearchCV(MongoSearchCV):
    """All combinations of `param_grid`."""

    _parameter_constraints: ClassVar = _constraints_of(sklearn.model_selection.GridSearchCV)

    def __init__(
        self,
        estimator,
        param_grid,
        *,
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        error_score=np.nan,
        return_train_score=False,
    ):
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )


class RandomizedSearchCV(MongoSearchCV):
    """`n_iter` draws from `param_distributions`."""

    _parameter_constraints: ClassVar = _constraints_of(sklearn.model_selection.RandomizedSearchCV)

    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        n_iter=10,
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
    ):
        super().__init__(
            estimator,
            param_distributions=param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )


OURS = (GridSearchCV, RandomizedSearchCV)


class HalvingGridSearchCV(MongoHalvingGridSearchCV):
    """Successive halving of all combinations of `param_grid`."""

    _parameter_constraints: ClassVar = _search_successive_halving.HalvingGridSearchCV.__dict__[
        "_parameter_constraints"
    ]

    def __init__(
        self,
        estimator,
        param_grid,
        *,
        factor=3,
        resource="n_samples",
        max_resources="auto",
        min_resources="exhaust",
        aggressive_elimination=False,
        cv=5,
        scoring=None,
        refit=True,
        error_score=np.nan,
        return_train_score=True,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        super().__init__(
            estimator,
            param_grid,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )


class HalvingRandomSearchCV(MongoHalvingRandomSearchCV):
    """Successive halving of `n_candidates` draws from `param_distributions`."""

    _parameter_constraints: ClassVar = _search_successive_halving.HalvingRandomSearchCV.__dict__[
        "_parameter_constraints"
    ]

    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        n_candidates="exhaust",
        factor=3,
        resource="n_samples",
        max_resources="auto",
        min_resources="smallest",
        aggressive_elimination=False,
        cv=5,
        scoring=None,
        refit=True,
        error_score=np.nan,
        return_train_score=True,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        super().__init__(
            estimator,
            param_distributions,
            n_candidates=n_candidates,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )


HALVING = (HalvingGridSearchCV, HalvingRandomSearchCV)


#: scikit-learn's table of instances for its tests of all estimators, by class.
_INSTANCES = "sklearn.utils._test_common.instance_generator"


@functools.cache
def imported_with_ours(name):
    """Return the installed module `name`, executed anew with our searches for scikit-learn's.

    It is first imported as it is, so that all that it imports itself is left alone.  Where it
    asks for all estimators of scikit-learn, it gets these two.
    """
    for module in (name, _INSTANCES):
        importlib.import_module(module)
    with _ours_in_scikit_learn(), _executed_anew(_INSTANCES):
        del sys.modules[name]
        # It stays there: its classes are pickled by its name.
        return importlib.import_module(name)


def their_tests(module):
    """Return the tests of `module` by name, to be collected from another one."""
    return {name: held for name, held in vars(module).items() if name.startswith("test")}


@contextmanager
def _ours_in_scikit_learn():
    """Let ``from sklearn... import`` give ours."""
    patch = pytest.MonkeyPatch()
    with patch.context() as during:
        for ours in (*OURS, *HALVING):
            during.setattr(sklearn.model_selection, ours.__name__, ours)
        during.setattr(sklearn.utils, "all_estimators", _our_estimators)
        yield


def _our_estimators(type_filter=None):
    return [] if type_filter else [(ours.__name__, ours) for ours in OURS]


@contextmanager
def _executed_anew(name):
    original = sys.modules.pop(name)
    importlib.import_module(name)
    try:
        yield
    finally:
        sys.modules[name] = original
