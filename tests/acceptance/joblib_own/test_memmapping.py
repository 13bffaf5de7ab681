"""joblib's own tests of what functions are given of large arguments, with our backend.

The others of their file look at joblib's own temporary files.
"""

from joblib_own.adapter import joblibs_tests

TESTS = (
    "test_managed_backend_reuse_temp_folder",
    "test_memmap_returned_as_regular_array",
    "test_numpy_arrays_use_different_memory",
    "test_direct_mmap",
    "test_parallel_memmap2d_as_memmap_1d_base",
)
_FOUND = joblibs_tests("joblib.test.test_memmapping", {})
globals().update({name: _FOUND[name] for name in TESTS})
