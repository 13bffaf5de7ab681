"""The order in which candidates that share first steps are scored."""

from sklearn.decomposition import PCA
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from optomatic.planning.prefixes import counts_of, has_prefixes, order_of

PIPELINE = Pipeline([("scale", StandardScaler()), ("pca", PCA()), ("clf", SVC())])


def ordered(grid, n_splits=2):
    candidates = list(ParameterGrid(grid))
    return candidates, order_of(PIPELINE, candidates, n_splits)


def test_each_unit_stands_there_once():
    candidates, order = ordered({"clf__C": [1, 2, 3], "pca__n_components": [2, 3, 4]})
    assert sorted(order) == [(n, split) for n in range(len(candidates)) for split in range(2)]


def test_the_first_of_each_kind_come_first_and_equal_kinds_are_together():
    candidates, order = ordered({"clf__C": [1, 2, 3], "pca__n_components": [2, 3]})
    sizes = [candidates[number]["pca__n_components"] for number, split in order if split == 0]
    assert sizes == [2, 3, 2, 2, 3, 3]


def test_among_the_first_those_with_other_first_steps_come_first():
    grid = {"clf__C": [1, 2], "pca__n_components": [2, 3], "scale__with_mean": [True, False]}
    candidates, order = ordered(grid)
    first = [candidates[number]["scale__with_mean"] for number, split in order if split == 0][:4]
    assert first == [True, False, True, False]


def test_many_kinds_are_begun_in_windows():
    candidates, order = ordered({"clf__C": [1, 2], "pca__n_components": list(range(1, 101))})
    begun = [candidates[number]["pca__n_components"] for number, _ in order[:128]]
    assert set(begun) == set(range(1, 33))


def test_candidates_that_share_nothing_keep_their_order():
    _, order = ordered({"pca__n_components": [4, 2, 3]})
    assert order == [(n, split) for n in range(3) for split in range(2)]


def test_values_are_counted_by_type():
    counts = counts_of([{"a": 1}, {"a": 1.0}, {"a": True}, {"a": 1, "b": [2]}])
    assert counts == {"candidates": 4, "values": {"a": 3, "b": 1}}


def test_only_pipelines_with_a_free_memory_have_first_steps():
    assert has_prefixes(PIPELINE)
    assert not has_prefixes(SVC())
    assert not has_prefixes(Pipeline(PIPELINE.steps, memory="folder"))
