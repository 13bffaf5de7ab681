"""
A real job: mixed columns, two models, two metrics
==================================================

A table of customers has numbers, words and missing values; the target is 1 for customers that
left.  One grid compares a linear model with boosted trees, and chooses the imputation of each.
A second grid is wider and reuses the scores of the first.  At the end three pictures show where
the good candidates are; they are saved in the current folder.

It needs matplotlib (``pip install "optomatic[plot]"``), and no server: without ``$OPTOMATIC_DB``
it uses the private MongoDB of this machine (the extra ``embedded``).
"""

import sys

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from optomatic import MongoSearchCV
from optomatic.plots import HeatmapDisplay, HistoryDisplay, ParallelDisplay

try:
    import matplotlib  # noqa: F401  # the pictures need it, and the searches come before them
except ImportError:
    sys.exit('This example needs matplotlib, which is not installed: pip install "optomatic[plot]"')

# %%
# The data
# --------
# The table is generated from a seed, so each run has the same rows, and stored scores serve it.


def customers(n=1500, seed=0):
    """Return a table with missing values, and for each row 1 if the customer left."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "months": rng.integers(1, 72, n).astype(float),
            "fee": rng.normal(60, 20, n).round(2),
            "calls": rng.poisson(1.5, n).astype(float),
            "contract": rng.choice(["monthly", "yearly", "two years"], n, p=[0.5, 0.3, 0.2]),
            "payment": rng.choice(["card", "invoice", "debit"], n),
            "region": rng.choice(["north", "east", "south", "west"], n),
        }
    )
    monthly = table["contract"] == "monthly"
    risk = 2.0 * monthly - 0.04 * table["months"] + 0.02 * (table["fee"] - 60)
    risk += 0.9 * (table["calls"] > 2) + 1.5 * (monthly & (table["payment"] == "invoice")) - 1
    left = rng.random(n) < 1 / (1 + np.exp(-risk))
    return table.mask(rng.random(table.shape) < 0.08), left.astype(int)


X, y = customers()
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
print(f"{len(X)} customers, {y.mean():.0%} left; {X.isna().to_numpy().mean():.0%} of cells missing")
print(X.head(3).to_string())

# %%
# One grid for two models
# -----------------------
# A list of grids has one for each model.  The trees take missing numbers as they are, so their
# grid can also leave the imputer out.

numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
is_number = make_column_selector(dtype_include="number")
is_word = make_column_selector(dtype_exclude="number")
columns = ColumnTransformer([("numbers", numbers, is_number), ("words", words, is_word)])
pipeline = Pipeline([("columns", columns), ("model", LogisticRegression())])

linear = {
    "columns__numbers__simpleimputer__strategy": ["mean", "median"],
    "model": [LogisticRegression(max_iter=1000)],
    "model__C": [0.1, 1.0],
}
trees = {
    "columns__numbers": [numbers, "passthrough"],
    "model": [HistGradientBoostingClassifier(max_iter=40, random_state=0)],
    "model__learning_rate": [0.03, 0.1],
    "model__max_leaf_nodes": [4, 8],
}


def search(name):
    """Search both grids by two metrics, in two processes; the first metric decides."""
    found = MongoSearchCV(
        pipeline,
        [linear, trees],
        scoring=["roc_auc", "neg_log_loss"],
        refit="roc_auc",
        cv=3,
        n_jobs=2,
        name=name,
    )
    found.fit(X_train, y_train)
    print(f"{name}: {found.summary_}")
    return found


first = search("customers")

# %%
# A wider one
# -----------
# Both grids get values.  The scores of the first search are in the database, and are not
# computed again.

linear["model__C"] = [0.01, 0.1, 1.0, 10.0]
trees["model__learning_rate"] = [0.03, 0.1, 0.3]
trees["model__max_leaf_nodes"] = [2, 4, 8, 16]
wider = search("customers, wider")

# %%
# The best candidates
# -------------------
# ``to_frame`` has a row a candidate.  A param that a candidate lacks is NaN.

table = wider.to_frame().nlargest(5, "score_roc_auc")
table["model"] = table["param_model"].astype(str).str.partition("(")[0]
shown = ["model", "param_model__learning_rate", "param_model__max_leaf_nodes", "param_model__C"]
print(table[[*shown, "score_roc_auc", "score_neg_log_loss"]].round(4).to_string())

best = type(wider.best_params_["model"]).__name__
print(f"best: {best}, AUC {wider.best_score_:.4f} in cross-validation")
print(f"AUC {wider.score(X_test, y_test):.4f} on rows that no search has seen")

# %%
# Pictures
# --------
# Each picture is a class; ``figure_`` is a figure of matplotlib.

best_so_far = HistoryDisplay.from_search(wider)
best_so_far.figure_.savefig("customers-history.png")

# %%
# The lines of this picture are candidates.  Those of the linear model lack the params of trees,
# and the other way round.

lines = ParallelDisplay.from_search(
    wider, params=["model__C", "model__learning_rate", "model__max_leaf_nodes"]
)
lines.figure_.savefig("customers-parallel.png")

# %%
# A cell of this one is the best score for two params.

cells = HeatmapDisplay.from_search(wider, params=["model__learning_rate", "model__max_leaf_nodes"])
cells.figure_.set_figwidth(9)  # the title has long names
cells.figure_.savefig("customers-heatmap.png")
print("pictures: customers-history.png, customers-parallel.png, customers-heatmap.png")
