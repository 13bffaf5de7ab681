"""A search, a dashboard and a browser."""

import contextlib

import browsers
import functions
import pytest

from optomatic import MongoSearch


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, whose log of requests the tests of a file share."""
    if browsers.BROWSER is None or browsers.DRIVER is None:
        pytest.skip("chromium and chromedriver are not installed")
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture
def start():
    """Start dashboards; kill them at the end."""
    started = []

    def start(*arguments, **options):
        process, address = browsers.start(*arguments, **options)
        started.append(process)
        return process, address

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def searched(module_uri):
    """The address of a store with a search of six units, and one with a failure."""
    MongoSearch(functions.parabola, {"x": range(6)}, db=module_uri, name="six").run()
    with contextlib.suppress(Exception):
        MongoSearch(functions.fails_at_two, {"x": [1, 2, 3]}, db=module_uri, name="ill").run()
    return module_uri


@pytest.fixture(scope="module")
def address(searched):
    """The address of a dashboard that changes nothing."""
    with browsers.served(searched) as address:
        yield address
