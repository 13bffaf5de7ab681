"""Filters of candidates, for users: the names, from where they live.

>>> from optomatic.filters import SeenFilter, ValidFilter
"""

# Columns is what a filter keeps: a pickle finds it here.
from optomatic.plan.candidates.candidate_table import Columns as Columns
from optomatic.plan.candidates.filters import NearFilter, PromisingFilter, SeenFilter, ValidFilter

__all__ = ["NearFilter", "PromisingFilter", "SeenFilter", "ValidFilter"]
