"""What does not count in keys: the exceptions, each with the reason.

Everything that a pickle carries counts but for the rows here.  ``tests/keys/test_not_counted.py``
measures that none of them changes a score.

==========================  ====================================================================
not counted                 reason
==========================  ====================================================================
HOW                         params of scikit-learn's estimators that say how to compute, not what.
                            Sums of several jobs may end in other last bits, those of forests from
                            run to run; so may those of a view that `memory` has kept.  `n_jobs`
                            counts where each job draws for itself (DRAWN_IN_JOBS)
HOW_OF_A_SEARCH             the same of our own searches, where one stands inside of another
CODE_FLAGS                  whether Python kept the docstring of a function
docstrings                  unless code that is reached reads ``__doc__`` (keys/digest.py)
lines and file names        they stand in tracebacks only (keys/digest.py)
_sklearn_version            the version counts already (keys/environment.py)
_skl_callbacks              they are told of fits; those that may end one count beside the
                            estimator (fitting/request.py)
what pydantic makes         it makes it from the rest of a class or an object (keys/libraries.py)
numbers of numba's types    they are counted as they are made (keys/libraries.py)
what numba has compiled     a function is compiled for each type that it meets; loops of ufuncs
                            count, since one for floats takes integers too (keys/libraries.py)
order of metrics            each scorer is called by itself (planning/payload.py)
order of fit keywords       keyword arguments go by name (planning/payload.py)
order of params             they are set by name (keys/estimators.py)
layout of 2-D arrays        rows that a split selects come out in C order (keys/data.py)
padding of long doubles     no operation reads it (keys/data.py)
state of distributions      clone copies numpy's global one with a distribution in params; draws of
                            unseeded ones are one draw anyway (keys/digest.py)
filled lru_cache            it returns what its function would (keys/reducers.py)
cached methods of classes   Python and abc make them from the rest (keys/reducers.py)
DISTRIBUTIONS               packages whose versions cannot change a score
==========================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: Libraries whose estimators have these params with this meaning.
_LIBRARIES = ("sklearn", "optomatic")
HOW = frozenset({"n_jobs", "verbose", "memory"})
#: Each of their jobs draws from a copy of the random state, so another number draws other numbers.
DRAWN_IN_JOBS = frozenset({"LatentDirichletAllocation", "MDS"})
HOW_OF_A_SEARCH = frozenset({"db", "name", "pre_dispatch", "retry_failed", "ship_modules"})


CODE_FLAGS = 0x4000000  # CO_HAS_DOCSTRING, since Python 3.13


#: Distribution (or distribution -> what it requires) -> why its version does not count.
DISTRIBUTIONS: Mapping[str, str] = {
    "joblib": "It distributes calls and returns what they return.",
    "threadpoolctl": "It sets how many threads run.",
    "cloudpickle": "It carries objects; a worker compares what it has loaded with the digest.",
    "packaging": "It parses version numbers.",
    "scikit-learn -> narwhals": "It selects rows and reads names and dtypes of frames.",
    "six": "It gives names of Python 2 to Python 3.",
    "typing-extensions": "It has types for checkers.",
    "optomatic": "It has scikit-learn do the scoring; KEY_VERSION counts.",
}


def params(varied: Collection[str]) -> frozenset[str]:
    """Return the params of scikit-learn's estimators that do not count.

    Parameters
    ----------
    varied : collection of str
        Names of the params that the space varies: these count.
    """
    return HOW - {name.rpartition("__")[2] for name in varied}


def params_of(value: object, left_out: frozenset[str]) -> frozenset[str]:
    """Return the params of the estimator `value` that do not count, if `left_out` does not."""
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
