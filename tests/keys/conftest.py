"""A second process for all tests of keys."""

import pytest
from keys.elsewhere import Elsewhere


@pytest.fixture(scope="session")
def elsewhere():
    """A process with another hash seed, which lives on."""
    process = Elsewhere()
    yield process
    process.close()
