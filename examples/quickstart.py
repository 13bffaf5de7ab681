"""A search on scikit-learn's digits that remembers what it has scored.

Run it twice: the second time everything is stored.  Without ``$OPTOMATIC_DB`` the scores
are kept by a private MongoDB that starts by itself and stops when nobody needs it.
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


print("3 values of C, 2 of gamma, 5 splits:")
search({"svc__C": [0.1, 1, 10], "svc__gamma": [0.001, 0.01]})

print("two more values of C; only their units are scored:")
search({"svc__C": [0.1, 1, 3, 10, 30], "svc__gamma": [0.001, 0.01]})

print("the same again:")
search({"svc__C": [0.1, 1, 3, 10, 30], "svc__gamma": [0.001, 0.01]})
