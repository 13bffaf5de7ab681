"""Filters of candidates, for users: the names, from where they live.

>>> from optomatic.filters import SeenFilter, ValidFilter
"""

# Columns and GrowingTable are what filters keep: a pickle finds them here.
from optomatic.plan.candidates.candidate_table import Columns as Columns
from optomatic.plan.candidates.candidate_table import GrowingTable as GrowingTable
from optomatic.plan.candidates.filters import NearFilter, PromisingFilter, SeenFilter, ValidFilter

__all__ = ["NearFilter", "PromisingFilter", "SeenFilter", "ValidFilter"]
