"""Hyperopt's side of ``compare.py``, in an environment of its own, where pymongo is older than 4.

Each line of standard input asks for a case; the answer is the number of its trials.  Hyperopt has
no grid: it draws as many candidates as the grid has, at random.
"""

from __future__ import annotations

import functools
import json
import sys
import uuid

import numpy as np
from hyperopt import fmin, hp, rand
from hyperopt.mongoexp import MongoTrials

from .work import Case, score


def loss(case: Case, number: int) -> float:
    """Return the loss of a candidate; hyperopt minimizes."""
    return -score(case, {name: values[number] for name, values in case.grid.items()})


def main() -> None:
    """Run the cases that are asked for."""
    for line in sys.stdin:
        case = Case(**json.loads(line))
        trials = MongoTrials(f"mongo://{sys.argv[1]}/jobs", exp_key=uuid.uuid4().hex)
        fmin(
            functools.partial(loss, case),
            hp.randint("number", case.candidates),
            algo=rand.suggest,
            max_evals=case.candidates,
            max_queue_len=case.candidates,
            trials=trials,
            rstate=np.random.default_rng(0),
            show_progressbar=False,
        )
        print(len(trials), flush=True)


if __name__ == "__main__":
    main()
