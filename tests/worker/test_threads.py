"""Numeric libraries of all children together use as many threads as there are cores."""

import json

import numpy as np
import pytest
from estimators import ThreadCounter

from optomatic import MongoSearchCV

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


@pytest.fixture
def counted(uri, tmp_path):
    """Return the numbers of threads in the processes that score."""

    def counted(**options):
        note = tmp_path / "note"
        estimator = ThreadCounter(note=str(note))
        options = {"cv": 2, "db": uri, "refit": False, **options}
        MongoSearchCV(estimator, {"value": [1, 2]}, **options).fit(X, Y)
        lines = [json.loads(line) for line in note.read_text().splitlines()]
        assert len(lines) == 4
        assert all(any(api == "blas" for api, _ in line) for line in lines)
        return {threads for line in lines for _, threads in line}

    return counted


def test_the_cores_are_shared_out(counted, monkeypatch):
    monkeypatch.setattr("optomatic.worker.pool.cores", lambda: 2)
    assert counted(n_jobs=2) == {1}


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_may_say_otherwise(counted, n_jobs):
    assert counted(n_jobs=n_jobs, inner_max_num_threads=5) == {5}
