"""Everything public is a name in the package, and importing it opens and sets up nothing."""

import subprocess
import sys

import optomatic


def test_public_names():
    assert optomatic.__all__ == [
        "MongoHalvingGridSearchCV",
        "MongoHalvingRandomSearchCV",
        "MongoSearch",
        "MongoSearchCV",
        "Racing",
        "attach",
    ]
    assert set(optomatic.__all__) <= set(dir(optomatic))
    assert optomatic.MongoSearchCV.__module__ == "optomatic.search"
    assert optomatic.MongoHalvingGridSearchCV.__module__ == "optomatic.halving"
    assert optomatic.MongoSearch.__module__ == "optomatic.function_search"


def test_importing_opens_no_socket_and_sets_no_logging_up():
    script = (
        "import socket, logging, threading\n"
        "def refuse(*args, **kwargs): raise AssertionError('a socket')\n"
        "socket.socket.__init__ = refuse\n"
        "import optomatic, optomatic.search\n"
        "assert not logging.getLogger().handlers and not logging.getLogger('optomatic').handlers\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
