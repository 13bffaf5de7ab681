"""What takes longest: ``pytest -m slow`` runs it, and ``pytest`` alone leaves it out.

Each of these files takes minutes; some promises are tested there alone.
"""

#: Files.
SLOW = (
    "acceptance/hosts/test_partition.py",
    "acceptance/hosts/test_soak.py",
    "acceptance/joblib_own/test_parallel.py",
    "acceptance/sklearn_own/test_common_checks.py",
    "acceptance/test_examples.py",
    "dashboard/test_pages.py",
    "search/test_data_kinds.py",
    "search/test_invalid_records.py",
    "search/test_mutations.py",
    "search/test_other_code.py",
    "search/test_user_code.py",
    "store/test_batches.py",
    "worker/test_joblib_pool.py",
    "worker/test_limits.py",
    "worker/test_outage.py",
    "worker/test_user_code_faults.py",
)
