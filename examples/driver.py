"""Searches over the params of any function: what drives the ones in scoring.py.

Run it twice: the second time nothing is scored.  With ``python -m optomatic.worker --db URI``
in this directory, on any machine, and ``OPTOMATIC_DB=URI`` here, workers help.
"""

from scoring import boosted_log_loss, network_accuracy
from sklearn.datasets import load_breast_cancer, load_digits

from optomatic import MongoSearch

N_JOBS = 2


def show(title, search):
    """Run a search and say what it took."""
    search.run()
    print(f"{title}\n  {search.summary_}")
    print(f"  best: {search.best_params_} with {search.best_score_:.4f}")


def main():
    X, y = load_breast_cancer(return_X_y=True)
    boosting = {"learning_rate": [0.05, 0.1, 0.3], "max_leaf_nodes": [7, 15]}
    search = MongoSearch(
        boosted_log_loss,
        boosting,
        data={"X": X, "y": y},
        direction="minimize",
        n_jobs=N_JOBS,
        name="boosting",
    )
    show("gradient boosting, log-loss with early stopping:", search)
    print(f"  it stopped after {search.best_extra_['iterations']} iterations")

    X, y = load_digits(return_X_y=True)
    options = {"data": {"X": X, "y": y}, "n_jobs": N_JOBS, "name": "network"}
    space = {"lr": [0.1, 1.0], "n_hidden": [8, 32], "activation": ["relu"]}
    show("a network in numpy:", MongoSearch(network_accuracy, space, **options))

    wider = {**space, "activation": ["tanh", "relu"]}
    show("one more activation; only its candidates are scored:",
         MongoSearch(network_accuracy, wider, **options))  # fmt: skip


if __name__ == "__main__":
    main()
