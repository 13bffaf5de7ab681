"""Any joblib code on the workers of a store, and a search on a cluster that is there already.

Start a worker or two first, with the same ``$OPTOMATIC_DB``::

    python -m optomatic.worker --processes 2
"""

import joblib
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_val_score

import optomatic  # noqa: F401  # it tells joblib of the backend

X, y = load_digits(return_X_y=True)
model = RandomForestClassifier(n_estimators=50, random_state=0)

# parallel_config also takes db="mongodb://host/name".
with joblib.parallel_config(backend="optomatic"):
    print(f"{joblib.effective_n_jobs(-1)} calls at the same time")
    print(f"cross_val_score: {cross_val_score(model, X, y, n_jobs=-1).mean():.3f}")
    forest = model.set_params(n_jobs=-1).fit(X, y)
    found = permutation_importance(forest, X, y, n_repeats=2, n_jobs=-1, random_state=0)
    print(f"the pixel that matters most: {found.importances_mean.argmax()}")
