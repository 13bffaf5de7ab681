"""A search whose units are scored on a dask cluster; what is scored stays in the store.

The same goes for every other backend of joblib: ray, loky, threading.  Run it twice: the second
time nothing is scored.
"""

import joblib
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from optomatic import MongoSearchCV


def main():
    """Search on two processes of dask, which know nothing of the store."""
    X, y = load_digits(return_X_y=True)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        search = MongoSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.001, 0.01]}, name="dask")
        search.fit(X, y)
    print(search.summary_)
    print(f"best: {search.best_params_} with {search.best_score_:.4f}")


if __name__ == "__main__":
    main()
