"""
All pictures of a search
========================

This script draws the pictures of docs/gallery.md, in both themes: three searches for boosted
trees, with the help of a standalone worker.  It writes them into docs/pictures.  Stored scores
have no timeline, so give it an empty database::

    OPTOMATIC_HOME=$(mktemp -d) python examples/gallery.py

It needs matplotlib: ``pip install "optomatic[plot]"``.
"""

import subprocess
import sys
from pathlib import Path

from scipy.stats import loguniform, randint
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier

from optomatic import MongoHalvingRandomSearchCV, MongoSearchCV
from optomatic.plots.displays import DISPLAYS

try:
    import matplotlib
except ImportError:
    sys.exit('This example needs matplotlib, which is not installed: pip install "optomatic[plot]"')

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
X, y = load_breast_cancer(return_X_y=True)
MODEL = HistGradientBoostingClassifier(random_state=0)
SPACE = {
    "learning_rate": loguniform(0.005, 1.0),
    "max_leaf_nodes": randint(2, 32),
    "l2_regularization": loguniform(1e-3, 1e2),
    "interaction_cst": [None, "pairwise", "no_interactions"],
}
#: Halving gives more iterations to those that do well; the other searches draw their number.
WIDER = {**SPACE, "max_iter": randint(10, 100)}
ITERATIONS = {"resource": "max_iter", "min_resources": 10, "max_resources": 90}


def searches():
    """Run the searches, with the help of a standalone worker; return them by name."""
    options = {"scoring": "neg_log_loss", "random_state": 0, "refit": False}
    options.update(n_jobs=2, inner_max_num_threads=1)
    race = {"n_iter": 30, "cv": 10, "racing": True}
    found = {
        "boosting": MongoSearchCV(MODEL, WIDER, n_iter=60, cv=3, name="boosting", **options),
        "raced": MongoSearchCV(MODEL, WIDER, name="raced", **race, **options),
        "halved": MongoHalvingRandomSearchCV(
            MODEL, SPACE, n_candidates=27, cv=3, name="halved", **ITERATIONS, **options
        ),
    }
    worker = subprocess.Popen([sys.executable, "-m", "optomatic", "worker"])
    try:
        return {name: search.fit(X, y) for name, search in found.items()}
    finally:
        worker.terminate()
        worker.wait()


def draw(search, kind, folder):
    """Write a picture in both themes; equal pictures are equal files."""
    for theme in ("light", "dark"):
        figure = DISPLAYS[kind].from_search(search, theme=theme).figure_
        with matplotlib.rc_context({"svg.hashsalt": "optomatic"}):
            figure.savefig(folder / f"{kind}-{theme}.svg", metadata={"Date": None})
        matplotlib.pyplot.close(figure)


def main():
    matplotlib.use("agg")
    found = searches()
    PICTURES.mkdir(exist_ok=True)
    for kind in DISPLAYS:
        draw(found[{"rungs": "halved", "splits": "raced"}.get(kind, "boosting")], kind, PICTURES)
    for name, search in found.items():
        print(f"{name}: {search.summary_}")


if __name__ == "__main__":
    main()
