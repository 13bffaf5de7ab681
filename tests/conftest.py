"""Servers and databases for all tests."""

import compileall
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import servers
import workers
from quick import QUICK
from slow import SLOW
from xdist.scheduler import LoadScopeScheduling

from optomatic.embedded.server import find_mongod
from optomatic.errors import ServerMissing

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "optomatic"
#: Folders whose tests share what is theirs: a database, workers, servers.
TOGETHER = ("sklearn_own", "joblib_own", "store")
#: What takes longest is begun first, or one process works at the end while the others idle.
LONGEST = (
    "search/test_user_code.py",
    "sklearn_own",
    "joblib_own",
    "store/",
    "acceptance/test_examples.py",
    "acceptance/test_pages.py",
    "search/test_mutations.py",
    "search/test_data_kinds.py",
    "search/test_other_code.py",
    "worker/test_joblib_pool.py",
    "search/test_invalid_records.py",
    "search/test_interrupts.py",
    "search/test_ctrl_c.py",
    "search/test_main.py",
    "worker/test_user_code_faults.py",
    "worker/test_limits.py",
    "worker/test_child.py",
    "worker/test_outage.py",
    "worker/test_pool.py",
    "hosts/test_soak.py",
    "embedded/test_server.py",
)


class FilesTogether(LoadScopeScheduling):
    """Keeps the tests of a file (or of such a folder) in one process, where there are several."""

    def _split_scope(self, nodeid):
        path = nodeid.partition("::")[0]
        folder = path.split("/")[-2]
        return folder if folder in TOGETHER else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Spread tests over processes (pytest -n) so that they find what they share."""
    config.option.loadscopereorder = False  # else what has most tests begins
    return FilesTogether(config, log)


def pytest_configure(config):
    """Keep byte code of the package: most processes that tests start import it."""
    if hasattr(config, "workerinput"):  # a process of xdist
        config.option.without_slow = config.workerinput["without_slow"]
        return
    if sys.dont_write_bytecode:
        compileall.compile_dir(PACKAGE, quiet=1)
    nothing_named = config.args_source is config.ArgsSource.TESTPATHS
    config.option.without_slow = nothing_named and not config.option.markexpr


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell the processes of xdist what is left out."""
    node.workerinput["without_slow"] = node.config.option.without_slow


def pytest_ignore_collect(collection_path, config):
    """Do not import what is left out."""
    file = _file(collection_path)
    left_out = config.option.markexpr == "quick" and file not in QUICK
    left_out |= config.option.without_slow and file in SLOW
    return True if left_out and collection_path.suffix == ".py" else None


def pytest_itemcollected(item):
    """Mark quick and slow tests."""
    file = _file(item.path)
    if file in SLOW:
        item.add_marker("slow")
    names = QUICK.get(file)
    if names is not None and re.search(names, item.name):
        item.add_marker("quick")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put what takes longest first, and leave all else in its order."""
    items.sort(key=lambda item: _turn(item.nodeid.partition("::")[0]))


def _file(path):
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""


def _turn(path):
    return next((n for n, name in enumerate(LONGEST) if f"/{name}" in path), len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory):
    """Keep out of the user's own store and caches, and let nothing of them in."""
    for name in [name for name in os.environ if name.startswith("OPTOMATIC_")]:
        if name != "OPTOMATIC_MONGOD":
            del os.environ[name]
    os.environ["OPTOMATIC_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    del os.environ["OPTOMATIC_HOME"]


@pytest.fixture(scope="session")
def mongod():
    """The binary; tests that need one are skipped where there is none, but not in CI."""
    try:
        return find_mongod()
    except ServerMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def _serve(start):
    server = start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def standalone(mongod):
    yield from _serve(servers.standalone)


@pytest.fixture(scope="session")
def one_node(mongod):
    yield from _serve(lambda: servers.replica_set(1))


@pytest.fixture(scope="session")
def three_nodes(mongod):
    yield from _serve(lambda: servers.replica_set(3))


@pytest.fixture(scope="session")
def auth_server(mongod):
    yield from _serve(lambda: servers.with_passwords("ann", "the right one"))


@pytest.fixture
def start_process():
    """Start processes that can import the modules of tests; kill them at the end."""
    started = []

    def start(*command, **options):
        """Start one; `options` are variables of its environment, in capitals, and Popen's."""
        started.append(workers.start(*command, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def start_worker(start_process):
    """Start standalone workers; kill them at the end."""

    def start(uri, *arguments, command=("-m", "optomatic.worker"), python=None, **options):
        """Start one; without `uri` it finds its database itself."""
        db = () if uri is None else ("--db", uri)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return start_process(python or sys.executable, *command, *db, *arguments, **options)

    return start


def _fresh_database(server):
    name = f"t{uuid.uuid4().hex[:12]}"
    yield server.uri(name)
    servers.database(server.uri("admin")).client.drop_database(name)


@pytest.fixture
def uri(one_node):
    """The address of an empty database on a replica set of one, as the embedded server is."""
    yield from _fresh_database(one_node)


@pytest.fixture
def database(uri):
    """The database behind `uri`."""
    return servers.database(uri)


@pytest.fixture(scope="module")
def module_uri(one_node):
    """The address of a database that all tests of a file share."""
    yield from _fresh_database(one_node)


@pytest.fixture
def standalone_uri(standalone):
    """The address of an empty database on a standalone server, by TCP."""
    yield from _fresh_database(standalone)


@pytest.fixture(params=["standalone", "one_node", "three_nodes"])
def any_uri(request):
    """The address of an empty database on each kind of server in turn."""
    yield from _fresh_database(request.getfixturevalue(request.param))
