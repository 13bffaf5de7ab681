"""The lines that ``verbose`` prints of units which were not scored in this process.

scikit-learn prints a line for each unit where it is scored.  Of units that were stored
already, or scored by workers, the client prints the same when it has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from joblib.logger import short_format_time

_WIDTH = 80


def cv_lines(
    rows: Sequence[Mapping[str, Any]],
    candidates: Sequence[Mapping[str, Any]],
    *,
    leave_out: Sequence[bool],
    verbose: int,
) -> Iterator[str]:
    """Yield a line for each row, as scikit-learn prints it when a unit is scored.

    Parameters
    ----------
    rows : sequence of mapping
        What ``_fit_and_score`` returns, candidate-major.
    candidates : sequence of mapping
    leave_out : sequence of bool
        For each row, whether its line has been printed.
    verbose : int
        From 2 on there are lines, from 3 on with scores and the number of the split, from
        10 on with the number of the candidate.
    """
    n_splits = len(rows) // len(candidates)
    for n, row in enumerate(rows):
        if verbose < 2 or leave_out[n]:
            continue
        candidate, split = divmod(n, n_splits)
        progress = f" {split + 1}/{n_splits}" if verbose > 2 else ""
        if verbose > 9:
            progress += f"; {candidate + 1}/{len(candidates)}"
        yield _line(row, candidates[candidate], progress, verbose)


def _line(row: Mapping[str, Any], candidate: Mapping[str, Any], progress: str, verbose: int) -> str:
    head = f"[CV{progress}] END "
    params = ", ".join(f"{name}={candidate[name]}" for name in sorted(candidate))
    text = params + (";" if params else "")
    if verbose > 2:
        text += _scores(row["test_scores"], row.get("train_scores"))
    text += f" total time={short_format_time(row['fit_time'] + row['score_time'])}"
    return head + text.rjust(_WIDTH - len(head), ".")


def _scores(test: Any, train: Any) -> str:
    if not isinstance(test, Mapping):
        return f", score={_pair(test, train)}" if train is not None else f", score={test:.3f}"
    train = train or {}
    return "".join(f" {name}: {_pair(test[name], train.get(name))}" for name in sorted(test))


def _pair(test: float, train: float | None) -> str:
    return f"(test={test:.3f})" if train is None else f"(train={train:.3f}, test={test:.3f})"
