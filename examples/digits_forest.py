"""
A search that leaves its work to workers
========================================

With ``n_jobs=0`` the search scores nothing itself: workers in other terminals, or on other
machines, score its units.  Start it, and then as many workers as you like, before, during or
after::

    python examples/digits_forest.py
    optomatic worker

It needs at least one worker, and waits until one comes; two workers on two cores take about a
minute.  Without ``$OPTOMATIC_DB`` both meet at the private server of this machine (the extra
``embedded``).  Set it to the address of a MongoDB, and the workers may be anywhere.  Start workers
in a folder without search definitions (``NAME.optomatic.toml``), as driver.py writes one.
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
