"""Public names of the generators of candidates.

>>> from optomatic.generators import QuasiRandom

A generator may also be any iterable of dicts, an object with ``ask(n)`` and maybe
``tell(evaluations)``, or a function of the history (see :mod:`optomatic.candidates.ask_tell`).
"""

from __future__ import annotations

from optomatic.candidates.async_halving import AsyncHalving
from optomatic.candidates.async_halving import Rung as Rung
from optomatic.candidates.grids import Replayed as Replayed
from optomatic.candidates.samplers import OptunaGenerator, QuasiRandom

__all__ = ["AsyncHalving", "OptunaGenerator", "QuasiRandom"]
