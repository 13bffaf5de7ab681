"""
A search on a cluster of dask
=============================

The processes of a dask cluster score the units, and know nothing of the database; the search
keeps the scores there.  So the second run scores nothing.  Each other backend of joblib works
the same way: ray, loky, threading.

It needs dask: ``pip install distributed``.
"""

import sys

import joblib
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from optomatic import MongoSearchCV

try:
    from dask.distributed import Client, LocalCluster
except ImportError:
    sys.exit("This example needs dask, which is not installed: pip install distributed")


def main():
    """Search on two processes of dask."""
    X, y = load_digits(return_X_y=True)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        search = MongoSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.001, 0.01]}, name="dask")
        search.fit(X, y)
    print(search.summary_)
    print(f"best: {search.best_params_} with {search.best_score_:.4f}")


# dask starts its processes by multiprocessing, and these import this file.
if __name__ == "__main__":
    main()
