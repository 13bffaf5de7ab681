"""Pictures of a search: scores, params, workers.  ``pip install "optomatic[plot]"`` draws them.

``HistoryDisplay.from_search(search)`` draws a fitted search, or one of :func:`optomatic.attach`.
"""

from optomatic.plots.displays import HeatmapDisplay as HeatmapDisplay
from optomatic.plots.displays import HistoryDisplay as HistoryDisplay
from optomatic.plots.displays import ImportanceDisplay as ImportanceDisplay
from optomatic.plots.displays import ParallelDisplay as ParallelDisplay
from optomatic.plots.displays import RungsDisplay as RungsDisplay
from optomatic.plots.displays import SliceDisplay as SliceDisplay
from optomatic.plots.displays import SplitsDisplay as SplitsDisplay
from optomatic.plots.displays import TimelineDisplay as TimelineDisplay
