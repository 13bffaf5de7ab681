"""The exceptions: all that does not count in keys, each with its reason.

Everything that a pickle carries counts, except for these rows.  tests/keys/test_not_counted.py
measures that none of them changes a score.

==========================  ====================================================================
not counted                 reason
==========================  ====================================================================
HOW                         params of scikit-learn's estimators that say how to compute.  Sums of
                            several jobs may differ in their last bits, as forests do from run to
                            run, and as views do that `memory` has kept.  `n_jobs` counts where
                            each job draws random numbers of its own (DRAWN_IN_JOBS)
HOW_OF_A_SEARCH             the same of our own searches, inside of another search
CODE_FLAGS                  whether Python kept the docstring of a function
docstrings                  unless the code that is reached reads ``__doc__`` (digest.py)
lines and file names        only tracebacks have them (digest.py)
_sklearn_version            the version counts already (environment.py)
_skl_callbacks              callbacks only observe fits; those that may end one count beside the
                            estimator (search/)
what pydantic derives       it derives these attributes from the rest of a class or an object
numbers of numba's types    numba counts its types in the order of creation (user_code.py)
code compiled by numba      numba compiles for each type that it meets; loops of ufuncs count,
                            because a loop for floats takes integers too (user_code.py)
order of metrics            each scorer is called by itself (planning/payload.py)
order of fit keywords       keyword arguments go by name (planning/payload.py)
order of params             set_params takes names (estimators.py)
layout of 2-D arrays        rows that a split selects come out in C order (data.py)
padding of long doubles     no operation reads it (data.py)
state of distributions      ``clone`` copies numpy's global random state with a distribution, and
                            an unseeded one never draws the same twice (digest.py)
filled lru_cache            it returns the results of its function (user_code.py)
cached methods of classes   Python and abc derive them from the rest (user_code.py)
versions of some packages   they cannot change a score (VERSIONS in environment.py)
==========================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: Libraries whose params of these names have this meaning.
_LIBRARIES = ("sklearn", "optomatic")
HOW = frozenset({"n_jobs", "verbose", "memory"})
#: Each job draws from a copy of the random state, so the number of jobs changes the draws.
DRAWN_IN_JOBS = frozenset({"LatentDirichletAllocation", "MDS"})
HOW_OF_A_SEARCH = frozenset({
    "db", "name", "pre_dispatch", "retry_failed", "reuse_prefixes", "ship_modules",
})  # fmt: skip


CODE_FLAGS = 0x4000000  # CO_HAS_DOCSTRING, since Python 3.13


#: Derived by pydantic in classes of models and dataclasses.
MADE_OF_MODELS = frozenset({
    "__pydantic_complete__", "__pydantic_core_schema__", "__pydantic_fields_complete__",
    "__pydantic_serializer__", "__pydantic_setattr_handlers__", "__pydantic_validator__",
    "__return_pydantic_validator__", "__signature__",
})  # fmt: skip
#: Derived in its own objects, such as a TypeAdapter; they contain addresses.
MADE_OF_OBJECTS = MADE_OF_MODELS | {
    "_default_factory_takes_validated_data", "cls_ref", "core_schema", "serializer", "validator",
}  # fmt: skip


def params(varied: Collection[str]) -> frozenset[str]:
    """Return the params that do not count; those that a space varies count."""
    return HOW - {name.rpartition("__")[2] for name in varied}


def params_of(value: object, left_out: frozenset[str]) -> frozenset[str]:
    """Return the params of the estimator `value` that do not count, given :func:`params`."""
    library = type(value).__module__.partition(".")[0]
    if library not in _LIBRARIES or not hasattr(value, "get_params"):
        return frozenset()
    if type(value).__name__ in DRAWN_IN_JOBS:
        return left_out - {"n_jobs"}
    return left_out | HOW_OF_A_SEARCH if library == "optomatic" else left_out


def state_of(value: object, left_out: frozenset[str]) -> frozenset[str]:
    """Return the attributes in the pickled state of `value` that do not count."""
    if not hasattr(value, "get_params"):
        return frozenset()
    return params_of(value, left_out) | {"_sklearn_version", "_skl_callbacks"}


def made_by(value: Any) -> frozenset[str]:
    """Return the attributes of a class or an object that a library derives from the others."""
    if isinstance(value, type):
        return MADE_OF_MODELS if "__pydantic_decorators__" in vars(value) else frozenset()
    return MADE_OF_OBJECTS if type(value).__module__.startswith("pydantic.") else frozenset()
