"""Objects whose digests are pinned: plain params, arrays, and frames whose dtypes are explicit.

Versions are no part of a digest, so these are equal on every Python and with every library.
``python tests/keys/golden.py`` compares, and with ``--write`` writes, golden.json: a change of
it is a decision, as all that was stored before is then not found any more.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

FILE = Path(__file__).with_name("golden.json")


def texts(values):
    """Return an index of texts that is of dtype object with every pandas."""
    return pd.Index(values, dtype=object)


def frame():
    """Return a frame of many dtypes; plain texts would be stored by another in each pandas."""
    made = pd.DataFrame(
        {
            "number": np.array([1.5, -0.0, np.nan]),
            "count": np.array([1, 2, 3], dtype="i8"),
            "small": np.array([1, 2, 3], dtype="u1"),
            "flag": np.array([True, False, True]),
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "object": np.array(["a", None, 1], dtype=object),
            "kind": pd.Categorical.from_codes([0, 1, -1], texts(["x", "y"]), ordered=True),
            "moment": np.array(["2020-01-01", "2020-01-02", "NaT"], dtype="M8[ns]"),
            "span": np.array([1, 2, 3], dtype="m8[s]"),
        },
        index=texts(["u", "v", "w"]),
    )
    return made.set_axis(texts([*"abcdefghi"]), axis=1)


OBJECTS = {
    "scalars": lambda: [None, True, 1, 1.0, -0.0, float("inf"), "a", "ü", b"a", 2**70, 1j],
    "numpy's scalars": lambda: [np.float64(1), np.int64(1), np.float32(0.1), np.bool_(True)],
    "moments of numpy": lambda: [np.datetime64("2020-01-01", "s"), np.timedelta64(1, "D")],
    "containers": lambda: [(1, "a"), [], {}, (), [[1], [2.5]], bytearray(b"a"), range(3), slice(2)],
    "sets": lambda: [{"a", "b", "c"}, frozenset(range(5)), {("x", 1), ("y", 2)}, {None, 1, "a"}],
    "dicts": lambda: {"b": 1, "a": {0: 1, 1: 2.5}, None: [{"c": ()}]},
    "one list twice": lambda: [[1]] * 2,
    "dtypes": lambda: [np.dtype("f8"), np.dtype(">i4"), np.dtype([("a", "f8"), ("b", "U3")])],
    "random state": lambda: np.random.RandomState(0),
    "array of floats": lambda: np.arange(6.0).reshape(2, 3),
    "array in the order of Fortran": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "array of three dimensions": lambda: np.arange(24, dtype="f4").reshape(2, 3, 4),
    "array of texts": lambda: np.array(["a", "bc"]),
    "array of objects": lambda: np.array([1, 1.0, "a", None], dtype=object),
    "array of moments": lambda: np.array(["2020-01-01", "NaT"], dtype="M8[s]"),
    "array of records": lambda: np.array([(1, 2.5)], dtype=[("a", "i8"), ("b", "f8")]),
    "array with a mask": lambda: np.ma.array([1.0, 2.0], mask=[False, True]),
    "sparse matrix": lambda: sp.csr_matrix(np.diag([1.0, 2.0])),
    "frame": frame,
    "frame of numbers": lambda: pd.DataFrame(
        np.arange(6.0).reshape(2, 3), columns=texts(["a", "b", "c"]), index=texts(["u", "v"])
    ),
    "series": lambda: pd.Series(np.arange(3.0), index=texts(["u", "v", "w"]), name="s"),
    "dtype of categories": lambda: pd.CategoricalDtype(texts(["x", "y"]), ordered=True),
    "functions of others": lambda: [len, max, np.add, np.sum],
}


def digests():
    """Return the digests of all objects by name."""
    from optomatic.keys.digest import digest_of

    return {name: digest_of(make()).hex for name, make in OBJECTS.items()}


def main(arguments):
    found = digests()
    if "--write" in arguments:
        FILE.write_text(json.dumps(found, indent=2) + "\n")
        return 0
    pinned = json.loads(FILE.read_text())
    differing = sorted(
        name for name in found.keys() | pinned if found.get(name) != pinned.get(name)
    )
    print("\n".join(differing) or f"{len(found)} digests are as pinned")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
