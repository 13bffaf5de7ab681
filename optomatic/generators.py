"""Generators of candidates, for users: the names, from where they live.

>>> from optomatic.generators import QuasiRandom

A generator of one's own is any iterable of dicts, an object with ``ask(n)`` and maybe
``tell(evaluations)``, or a function of the history (see :mod:`optomatic.plan.course.proposing`).
"""

# Rung is what a generator keeps: a pickle finds it here.
from optomatic.plan.candidates.async_halving import AsyncHalving
from optomatic.plan.candidates.async_halving import Rung as Rung
from optomatic.plan.candidates.optuna_samplers import OptunaGenerator
from optomatic.plan.candidates.quasi_random import QuasiRandom

__all__ = ["AsyncHalving", "OptunaGenerator", "QuasiRandom"]
