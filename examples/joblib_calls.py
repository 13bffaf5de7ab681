"""
Calls of joblib on workers
==========================

scikit-learn runs its parallel work by joblib.  With the backend ``optomatic``, workers of a
database run it: here the folds of ``cross_val_score``, the trees of a forest, and a permutation
importance.  Workers on other machines help if they have the same ``$OPTOMATIC_DB``.

It needs no server: without ``$OPTOMATIC_DB`` it uses the private MongoDB of this machine (the
extra ``embedded``).
"""

import atexit
import subprocess
import sys

import joblib
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_val_score

import optomatic  # noqa: F401  # it registers the backend

# %%
# A worker
# --------
# This one has two processes, and ends with the example.  In a terminal it is
# ``optomatic worker --processes 2``.  A worker takes the database of a search definition
# (``NAME.optomatic.toml``) in its folder, as driver.py writes one; this one starts in ``/``.

command = [sys.executable, "-m", "optomatic", "worker", "--processes", "2"]
worker = subprocess.Popen(command, cwd="/")
atexit.register(worker.terminate)

# %%
# The calls
# ---------
# ``parallel_config`` also takes ``db="mongodb://host/name"``.

X, y = load_digits(return_X_y=True)
model = RandomForestClassifier(n_estimators=50, random_state=0)

with joblib.parallel_config(backend="optomatic"):
    print(f"cross_val_score: {cross_val_score(model, X, y, n_jobs=-1).mean():.3f}")
    print(f"{joblib.effective_n_jobs(-1)} calls at the same time")
    forest = model.set_params(n_jobs=-1).fit(X, y)
    found = permutation_importance(forest, X, y, n_repeats=2, n_jobs=-1, random_state=0)
    print(f"the pixel that matters most: {found.importances_mean.argmax()}")
