"""What this is for, each in a test: workers, sweeps that grow, generators, scikit-learn's own.

1. Any number of workers at once share one search.
2. A sweep that is extended repeats nothing, whichever value is added, and wherever.
3. A generator of one's own is a few lines.
4. ParameterGrid and ParameterSampler are used as they are.
"""

import functions
import numpy as np
import pytest
import servers
from scipy.stats import uniform
from sklearn.model_selection import ParameterGrid, ParameterSampler

from optomatic import MongoSearch, MongoSearchCV


def units(uri):
    return list(servers.units(uri).find())


@pytest.fixture
def two_workers(uri, start_worker):
    started = [start_worker(uri, stderr=None) for _ in range(2)]
    assert all("ready" in worker.stdout.readline() for worker in started)


def test_several_workers_at_once(uri, two_workers):
    """Both do their part, and nothing is done twice."""
    search = MongoSearch(functions.slow, {"x": range(40), "seconds": [0.1]}, n_jobs=0, db=uri).run()
    assert search.best_score_ == 39
    assert [u["runs"] for u in units(uri)] == [1] * 40
    assert len({u["completed_by"] for u in units(uri)}) == search.summary_.workers == 2


def test_a_sweep_that_grows_by_a_category_and_a_value_repeats_nothing(uri):
    space = {"kind": ["b", "c"], "x": [0.5, 2]}
    MongoSearch(functions.metrics_of_kind, space, db=uri).run()
    before = {u["_id"]: u["completed_at"] for u in units(uri)}
    for kinds in (["a", "b", "c"], ["c", "a", "b"], ["b", "new", "c", "a"]):
        wider = MongoSearch(functions.metrics_of_kind, {"kind": kinds, "x": [2, 0.5]}, db=uri).run()
        assert {tuple(row) for row in wider.results_[["param_kind", "param_x"]].to_numpy()} == {
            (kind, x) for kind in kinds for x in (0.5, 2)
        }
    assert [u["runs"] for u in units(uri)] == [1] * 8
    assert before.items() <= {u["_id"]: u["completed_at"] for u in units(uri)}.items()
    assert {u["params"]["kind"] for u in units(uri)} == {"a", "b", "c", "new"}  # as they are


def test_a_generator_of_ones_own_is_a_few_lines(uri):
    class Golden:
        low, high = 0.0, 6.0

        def ask(self, n):
            if self.high - self.low < 0.1:
                return []
            self.pair = [self.low + f * (self.high - self.low) for f in (0.382, 0.618)]
            return [{"x": x} for x in self.pair]

        def tell(self, evaluations):
            first, second = (functions.parabola(x) for x in self.pair)
            self.low, self.high = (
                (self.low, self.pair[1]) if first > second else (self.pair[0], self.high)
            )

    search = MongoSearch(functions.parabola, Golden(), db=uri).run()
    assert abs(search.best_params_["x"] - 3) < 0.1
    assert len(search.results_) < 40


def test_scikit_learns_generators_as_they_are(uri):
    from estimators import Sleeper

    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    for space in (
        ParameterGrid([{"value": [1, 2]}, {"value": [3], "seconds": [0.0]}]),
        ParameterSampler({"value": uniform(0, 1)}, 3, random_state=0),
    ):
        search = MongoSearchCV(Sleeper(), space, cv=2, db=uri).fit(X, y)
        assert search.cv_results_["params"] == list(space)
        function = MongoSearch(lambda value, seconds=0: value, space, db=uri).run()
        assert function.results_["param_value"].tolist() == [c["value"] for c in space]
