"""Objects whose keys are pinned, with versions that do not change.

Code of one's own is not among them: byte code is each Python minor's own.
"""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import loguniform
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from optomatic.plan.keys.fingerprint import fingerprint, fingerprint_split

VERSIONS = {
    "sklearn": ("scikit-learn", "1.2.3"),
    "numpy": ("numpy", "4.5"),
    "scipy": ("scipy", "6.7"),
    "pandas": ("pandas", "8.9"),
}

OBJECTS = {
    "scalars": [None, True, 1, 1.0, -0.0, "a", b"a", 2**70, np.float64(1), np.int64(1)],
    "sets": [{"a", "b", "c"}, frozenset(range(5)), {("x", 1), ("y", 2)}],
    "dict": {"b": 1, "a": {0: 1, 1: 2.5}},
    "svc": SVC(C=2),
    "pipeline": make_pipeline(StandardScaler(), SVC(class_weight={0: 1, 1: 2})),
    "forest": RandomForestClassifier(random_state=3, n_jobs=4),
    "random state": np.random.RandomState(0),
    "distribution": loguniform(1, 10),
    "scorer": make_scorer(f1_score, average="macro"),
    "array": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "sparse": sp.csr_matrix(np.eye(3)),
    # Texts of dtype object: what pandas makes of plain ones depends on its version.
    "frame": pd.DataFrame(
        {0: [1, 2], 1: pd.Categorical.from_codes([0, 1], pd.Index(["x", "y"], dtype=object))}
    ).set_axis(pd.Index(["a", "b"], dtype=object), axis=1),
    "builtin": [len, np.add, max],
}


def injected(module):
    """Stand in for the installed versions."""
    return VERSIONS.get(module.partition(".")[0], ("", ""))


def keys():
    """Return the digests of all objects, and of one split."""
    found = {name: fingerprint(value, versions=injected).digest for name, value in OBJECTS.items()}
    return {**found, "split": fingerprint_split([0, 1, 2], [3, 4])}
