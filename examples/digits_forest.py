"""A search that leaves all of its work to workers in other terminals, or on other machines.

Start it, and then as many workers as you like, before, during or after::

    python examples/digits_forest.py
    python -m optomatic.worker

Without ``$OPTOMATIC_DB`` both meet at the private server of this machine; set it to the address
of a MongoDB, and the workers may be anywhere.
"""

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from optomatic import MongoSearchCV

X, y = load_digits(return_X_y=True)
forest = RandomForestClassifier(n_estimators=200, random_state=0)
grid = {
    "max_depth": [4, 8, 16, None],
    "min_samples_leaf": [1, 2, 4],
    "max_features": ["sqrt", 0.3],
}

search = MongoSearchCV(forest, grid, n_jobs=0, verbose=1, name="digits forest").fit(X, y)
print(search.best_params_, round(search.best_score_, 4))
