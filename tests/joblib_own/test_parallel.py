"""joblib's own tests of its parallel API, with our backend and standalone workers."""

from joblib_own.adapter import joblibs_tests

EXCEPTIONS = {}

globals().update(
    joblibs_tests(
        "joblib.test.test_parallel",
        EXCEPTIONS,
        # Two calls of loky share one executor, so that the end of one ends the other; ours do not.
        test_multiple_generator_call_separated_gc=[("optomatic", False)],
    )
)


def test_workers_executed_the_calls_of_most_of_them(executed):
    print(len(executed.by_test), executed.by_test)
