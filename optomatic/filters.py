"""Filters of candidates, for users: the names, from where they live.

>>> from optomatic.filters import SeenFilter, ValidFilter
"""

from optomatic.plan.candidates.filters import NearFilter, PromisingFilter, SeenFilter, ValidFilter

__all__ = ["NearFilter", "PromisingFilter", "SeenFilter", "ValidFilter"]
