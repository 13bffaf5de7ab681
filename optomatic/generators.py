"""Public names of the generators of candidates.

>>> from optomatic.generators import QuasiRandom

A generator may also be any iterable of dicts, an object with ``ask(n)`` and maybe
``tell(evaluations)``, or a function of the history (see :mod:`optomatic.candidates.ask_tell`).
"""

from __future__ import annotations

from optomatic.candidates.grids import Replayed as Replayed
from optomatic.candidates.samplers import AsyncHalving, OptunaGenerator, QuasiRandom
from optomatic.candidates.samplers import Rung as Rung

__all__ = ["AsyncHalving", "OptunaGenerator", "QuasiRandom"]
