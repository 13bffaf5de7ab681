"""A process that has many files open, as servers and notebooks may."""

import os
import resource

import pytest
from estimators import Sleeper

from optomatic.worker.forkserver import CAN_FORK, Setup
from optomatic.worker.pool import Pool, current_path

#: What select() cannot look at.
MANY = 1024


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * MANY:
        pytest.skip("so many files may not be opened here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * MANY), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(MANY)]
    yield
    for file in files:
        os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("fresh", [True, False] if CAN_FORK else [True])
def test_its_children_score(many_files, queue, make_worker, fresh):
    # An idle time of its own, so that the fork server too is started now.
    pool = Pool(1, Setup(current_path(), idle=99.0, fresh=fresh))
    search = queue.submit(Sleeper(), [{"value": 1}])
    assert make_worker(pool).run(queue.over(search)).scored == 2
    pool.close()
