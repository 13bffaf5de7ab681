"""What is kept of the first steps of pipelines: nothing is believed that is not whole."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from optomatic.worker.disk_cache import Cache
from optomatic.worker.prefix_files import PrefixFiles, prefix_files

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def files(tmp_path):
    return prefix_files(tmp_path, 10**8)


def path_of(tmp_path, key=KEY):
    (found,) = tmp_path.rglob(f"{key}.prefix")
    return found


KEPT = {
    "C order": np.arange(12.0).reshape(3, 4),
    "Fortran order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "sparse": sparse.random(20, 30, 0.1, format="csr", random_state=0),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, np.nan]}),
    "objects": np.array(["a", None, 3.5], dtype=object),
    "empty": np.empty((0, 3)),
    "several": (np.arange(3), {"b": np.arange(1000.0)}, "text"),
}


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_what_is_kept_comes_back_bit_for_bit(files, kept):
    assert files.keep(KEY, kept, {}) > 0
    found = files.load(KEY, {})
    assert type(found) is type(kept)
    assert pickle.dumps(found) == pickle.dumps(pickle.loads(pickle.dumps(kept)))
    if isinstance(kept, np.ndarray) and kept.size:
        assert (found.strides, found.flags.f_contiguous) == (kept.strides, kept.flags.f_contiguous)


def test_each_reader_may_write_into_what_it_got(files):
    files.keep(KEY, np.zeros(1000), {})
    first = files.load(KEY, {})
    first += 1.0
    assert files.load(KEY, {}).sum() == 0.0


def damaged(content, how):
    changed = bytearray(content)
    if how == "half":
        return bytes(changed[: len(changed) // 2])
    if how == "one byte more":
        return bytes(changed) + b"x"
    if how == "none":
        return b""
    at = {"marker": 3, "digest": 25, "size": 53, "content": -1}[how]
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "how", ["half", "one byte more", "none", "marker", "digest", "size", "content"]
)
def test_what_is_not_whole_is_no_result_and_is_replaced(files, tmp_path, how):
    files.keep(KEY, np.arange(1000), {})
    path = path_of(tmp_path)
    path.write_bytes(damaged(path.read_bytes(), how))
    fresh = prefix_files(tmp_path, 10**8)
    assert fresh.load(KEY, {}) is None
    assert fresh.keep(KEY, np.arange(1000), {}) > 0
    assert fresh.load(KEY, {}).sum() == 499500


def test_a_process_that_ended_while_it_wrote_leaves_nothing_that_is_read(files, tmp_path):
    files.keep(KEY, np.arange(1000), {})
    path = path_of(tmp_path)
    path.rename(path.with_name(f".{KEY}.{'0' * 16}"))
    assert files.load(KEY, {}) is None


def test_named_objects_are_those_of_the_reader(files):
    def mine():
        """Stand for a function that has no place to import."""

    def yours():
        """Stand for the same one elsewhere."""

    files.keep(KEY, {"function": mine}, {"f": mine})
    assert files.load(KEY, {"f": yours})["function"] is yours
    assert files.load(KEY, {}) is None


def test_what_has_no_pickle_is_not_kept(files, tmp_path):
    assert files.keep(KEY, lambda: None, {}) == 0
    assert not list(tmp_path.rglob("*.prefix"))


def test_the_least_recently_used_go_first_and_all_stay_below_the_size(tmp_path):
    files = prefix_files(tmp_path, 1_000_000)
    array = np.zeros(12_500)  # 100 kB
    for n in range(9):
        files.keep(f"{n}" * 64, array + n, {})
        os.utime(path_of(tmp_path, f"{n}" * 64), (n + 1, n + 1))
    assert files.load("0" * 64, {}) is not None  # used again
    for key in (KEY, OTHER):
        files.keep(key, array, {})
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.prefix")]
    assert sum(sizes) <= 1_000_000
    assert files.load("0" * 64, {}) is not None
    assert files.load("1" * 64, {}) is None
    assert files.load(OTHER, {}) is not None


def test_what_would_take_most_of_the_cache_is_not_kept(tmp_path):
    files = prefix_files(tmp_path, 100_000)
    assert files.keep(KEY, np.zeros(10_000), {}) == 0


def test_a_folder_that_takes_nothing_is_no_error(tmp_path):
    cache = Cache(tmp_path)
    files = PrefixFiles(cache)
    os.chmod(cache.root, 0o700)
    (cache.root / ".lock-prefixes").mkdir()
    assert files.keep(KEY, np.zeros(10), {}) == 0
    assert files.load(KEY, {}) is None
