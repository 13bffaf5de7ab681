"""The client of a search, run on a host of its own: fits, and prints its scores."""

import json
import sys

import numpy as np
from estimators import Sleeper

from optomatic import MongoSearchCV

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


def main(candidates: str, seconds: str) -> None:
    """Score so many candidates on two splits, each for so many seconds."""
    grid = {"value": list(range(int(candidates)))}
    search = MongoSearchCV(Sleeper(seconds=float(seconds)), grid, cv=2, n_jobs=0, refit=False)
    print(json.dumps(search.fit(X, Y).cv_results_["mean_test_score"].tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
