"""
Searches over the params of any function
========================================

MongoSearch searches the params of a function that returns a number, or (number, extra).  This
script searches those of two functions in scoring.py.  Run it twice: the second time nothing is
scored.

It writes sweep.optomatic.toml into the current folder.  Workers that start there, on any
machine, read the address of the database from it.  ``python driver.py --leave`` queues all units
and leaves them to these workers.  It needs no server: without ``$OPTOMATIC_DB`` it uses the
private MongoDB of this machine (the extra ``embedded``).
"""

import sys

from scoring import boosted_log_loss, network_accuracy
from sklearn.datasets import load_breast_cancer, load_digits

from optomatic import MongoSearch

N_JOBS = 2


def searches():
    """Return the searches by title."""
    X, y = load_breast_cancer(return_X_y=True)
    options = {"n_jobs": N_JOBS, "definition": "sweep"}
    boosting = MongoSearch(
        boosted_log_loss,
        {"learning_rate": [0.05, 0.1, 0.3], "max_leaf_nodes": [7, 15]},
        data={"X": X, "y": y},
        direction="minimize",
        name="boosting",
        **options,
    )
    X, y = load_digits(return_X_y=True)
    options.update(data={"X": X, "y": y}, name="network")
    space = {"lr": [0.1, 1.0], "n_hidden": [8, 32], "activation": ["relu"]}
    wider = {**space, "activation": ["tanh", "relu"]}  # in any order
    return {
        "gradient boosting, log-loss with early stopping:": boosting,
        "a network in numpy:": MongoSearch(network_accuracy, space, **options),
        "one more activation; only its candidates are scored:": MongoSearch(
            network_accuracy, wider, **options
        ),
    }


def show(title, search):
    """Run a search and say what it took."""
    search.run()
    print(f"{title}\n  {search.summary_}")
    print(f"  best: {search.best_params_} with {search.best_score_:.4f}")
    if "iterations" in (search.best_extra_ or {}):
        print(f"  it stopped after {search.best_extra_['iterations']} iterations")


def main():
    print("Workers, in this directory in other terminals: python -m optomatic.worker --until-empty")
    for title, search in searches().items():
        if "--leave" in sys.argv:
            print(f"left to workers: {search.name}, {search.submit()}")
        else:
            show(title, search)


if __name__ == "__main__":
    main()
