"""Public names of the filters of candidates.

>>> from optomatic.filters import SeenFilter, ValidFilter
"""

from __future__ import annotations

from optomatic.candidates.filters import Columns as Columns
from optomatic.candidates.filters import GrowingTable as GrowingTable
from optomatic.candidates.filters import NearFilter, PromisingFilter, SeenFilter, ValidFilter

__all__ = ["NearFilter", "PromisingFilter", "SeenFilter", "ValidFilter"]
