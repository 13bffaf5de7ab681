"""joblib's own tests of its parallel API, with our backend and standalone workers."""

import pytest
from joblib_own.adapter import joblibs_tests

#: Tests that ask joblib's default for what only loky has: its executor, its class, the
#: environment of this process.
LOKY_IS_THE_DEFAULT = {
    "test_backend_hinting_and_constraints",
    "test_loky_reuse_workers",
    "test_threadpool_limitation_in_child_loky",
    "test_threadpool_limitation_in_child_override",
}
#: Tests that name loky where they mean any backend of processes: there it is ours.
LOKY_MEANS_OURS = {
    "test_parallel_byteorder_corruption",
    "test_nested_loop_with_exception_with_loky",
    "test_threadpool_limitation_in_child_context",
}
_LOKYS = "its subject is the executor of loky, which keeps processes for an initializer"
EXCEPTIONS = {
    "test_initializer_reused": _LOKYS,  # 2 tests
    "test_initializer_not_reused": _LOKYS,  # 2 tests
    "test_memmapping_leaks": "large arguments lie in the store and in the caches of workers, so "
    "the temp_folder whose content is looked at stays empty",
}

globals().update(
    joblibs_tests(
        "joblib.test.test_parallel",
        EXCEPTIONS,
        # Two calls of loky share one executor, so that the end of one ends the other; ours do not.
        test_multiple_generator_call_separated_gc=[("optomatic", False)],
    )
)


def test_workers_executed_the_calls_of_150_tests(executed, request):
    """At the end of the folder: counted in the database, by the workers that finished them."""
    ran = [item for item in request.session.items if item.path.parent == request.path.parent]
    if len(ran) < 250:
        pytest.skip("only some of the tests were asked for")
    print(f"{len(executed.by_test)} tests executed {sum(executed.by_test.values())} calls")
    assert len(executed.by_test) >= 150


def test_exceptions_are_few(request):
    skipped = [i for i in request.session.items if i.originalname in EXCEPTIONS]
    assert len(skipped) <= 15
