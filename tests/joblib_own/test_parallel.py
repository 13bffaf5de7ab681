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
EXCEPTIONS = {
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
    """At the end of the file: counted in the database, by the workers that finished them."""
    ran = {item.nodeid for item in request.session.items if item.path == request.path}
    if len(ran) < 250:
        pytest.skip("only some of the tests were asked for")
    executing = {test for test in executed.by_test if test in ran}
    print(f"{len(executing)} tests executed {sum(executed.by_test.values())} calls")
    assert len(executing) >= 150


def test_exceptions_are_few():
    assert len(EXCEPTIONS) <= 15
