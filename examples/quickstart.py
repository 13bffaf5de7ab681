"""
A search that remembers its scores
==================================

This example searches a grid on scikit-learn's digits, adds values to the grid, and searches
again.  A *unit* is one candidate on one split; only new units are scored.  Run it twice: the
second time everything is stored.

It needs no server.  Without ``$OPTOMATIC_DB`` a private MongoDB (the extra ``embedded``) starts
by itself, keeps the scores, and stops when nobody needs it.
"""

from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from optomatic import MongoSearchCV

X, y = load_digits(return_X_y=True)
model = make_pipeline(StandardScaler(), SVC())


def search(grid):
    """Search `grid` and say what it took."""
    found = MongoSearchCV(model, grid, name="digits").fit(X, y)
    print(f"  {found.summary_}")
    print(f"  best: {found.best_params_} with {found.best_score_:.4f}")


# %%
# A first search
# --------------
# MongoSearchCV takes the arguments of GridSearchCV, and sets the same attributes.

print("3 values of C, 2 of gamma, 5 splits:")
search({"svc__C": [0.1, 1, 10], "svc__gamma": [0.001, 0.01]})

# %%
# A wider one
# -----------
# The candidates of the first search are in the database, so the second one scores the others.

print("two more values of C; only their units are scored:")
search({"svc__C": [0.1, 1, 3, 10, 30], "svc__gamma": [0.001, 0.01]})

# %%
# The same again
# --------------
# Nothing is left to score; the best candidate is fitted on all rows.

print("the same again:")
search({"svc__C": [0.1, 1, 3, 10, 30], "svc__gamma": [0.001, 0.01]})
