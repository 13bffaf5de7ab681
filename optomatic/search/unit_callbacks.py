"""Notify scikit-learn's callbacks of the units of a search.

::

    scored in this process     by scikit-learn itself, as it happens, down into the fits
    scored by local workers    begin and end together, when the result arrives
    scored elsewhere           begin and end together, when the store has it (looked up each second)
    stored                     begin and end together, before anything is scored

Each (candidate, split) is told of once, with the task id that it has in GridSearchCV, so that
a progress bar ends at 100 % wherever units are scored.  Where candidates come about meanwhile,
their tasks come about with them.  Everything is told in the thread that called ``fit``.  An
exception of a callback ends the search; finished scores stay stored.

A callback that is called *inside* of the fits may end a fit early, and it lives in this process.
scikit-learn hands it down to the estimator, or it is set on the estimator itself.  So such units
are scored here, whatever ``n_jobs`` is, and are shared only with searches whose callbacks are
equal.  Nothing has to be pickled for that.  A ProgressBar only draws and is not counted among
them: of units that others score it draws whole steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sklearn.base import clone

from optomatic import _sklearn
from optomatic.planning.workload import FitWorkload
from optomatic.records import Candidate


class UnitCallbacks:
    """Tells the callbacks of `search` of its units, of each once, as subtasks of `context`."""

    def __init__(self, search: object, context: Any, bundle: FitWorkload) -> None:
        self._search = search
        self._context = context
        self._bundle = bundle
        self._candidates: list[Mapping[str, Any]] = []
        self._contexts: dict[int, Any] = {}
        self._tasks: dict[str, list[int]] = {}
        self._told: set[int] = set()
        self._ended: set[str] = set()

    def planned(self, candidate: Candidate) -> None:
        """Make the tasks of a candidate, one for each of its units; none if it was left out.

        Where all candidates are known all are planned before the first hook runs: the tree is
        whole when a callback looks at it.
        """
        first = len(self._candidates) * len(self._bundle.splits)
        self._candidates.append(candidate.params)
        ids = candidate.units
        most = self._context.max_subtasks
        if most is not None and len(self._contexts) + len(ids) > most:
            self._context.max_subtasks = len(self._contexts) + len(ids)
        for task, unit_id in enumerate(ids, first):
            self._contexts[task] = self._context.subcontext(
                task_name="candidate-split-evaluation", task_id=task
            )
            self._tasks.setdefault(unit_id, []).append(task)
        self.done([unit_id for unit_id in ids if unit_id in self._ended])

    def of(self, unit_id: str) -> dict[str, Any]:
        """Return what scikit-learn needs to tell of a unit that it scores now."""
        task = self._tasks[unit_id][0]
        if task in self._told:
            return {}
        self._told.add(task)
        return {"caller": self._search, "callback_ctx": self._contexts[task]}

    def done(self, unit_ids: Collection[str]) -> None:
        """Notify callbacks of units that were not scored by scikit-learn in this process."""
        self._ended.update(unit_ids)
        tasks = (task for unit_id in unit_ids for task in self._tasks[unit_id])
        for task in sorted(task for task in tasks if task not in self._told):
            self._told.add(task)
            self._tell(task)

    def _tell(self, task: int) -> None:
        candidate, split = divmod(task, len(self._bundle.splits))
        rows = _Rows(self._bundle, self._candidates[candidate], split)
        context = self._contexts[task]
        # Functions: rows are selected only if a hook asks for them.
        shown = {"X": rows.X, "y": rows.y, "metadata": rows.metadata}
        context.call_on_fit_task_begin(estimator=self._search, **shown)
        context.call_on_fit_task_end(estimator=self._search, **shown)


class _Rows:
    """The training rows of a unit, selected when they are asked for."""

    def __init__(self, bundle: FitWorkload, candidate: Mapping[str, Any], split: int) -> None:
        self._bundle = bundle
        self._candidate = candidate
        self._train = bundle.splits[split][0]
        self._selected: tuple[Any, Any] | None = None

    def X(self) -> Any:
        return self._select()[0]

    def y(self) -> Any:
        return self._select()[1]

    def metadata(self) -> dict[str, Any] | None:
        bundle = self._bundle
        weight = (bundle.fit_params or {}).get("sample_weight")
        if weight is None:
            return None
        params = {"sample_weight": weight}
        return dict(_sklearn.check_method_params(bundle.X, params=params, indices=self._train))

    def _select(self) -> tuple[Any, Any]:
        if self._selected is None:
            bundle = self._bundle
            # A candidate may decide whether X is a kernel, of which columns are selected too.
            params = clone(dict(self._candidate), safe=False)
            estimator = clone(bundle.estimator).set_params(**params)
            self._selected = _sklearn.safe_split(estimator, bundle.X, bundle.y, self._train)
        return self._selected
