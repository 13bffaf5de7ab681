"""Which searches a standalone worker is for, told by a definition file or by names."""

import contextlib
import threading
from functools import partial

import functions
import pytest
from estimators import Sleeper
from pymongo import MongoClient, monitoring
from waiting import wait_for

from optomatic import MongoSearch
from optomatic.definition import Definition, add, path_of
from optomatic.errors import DefinitionError
from optomatic.worker.cli import FromFile, _searches, configuration_of, main, parser


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory of their own for a driver and its workers, which know of no database."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("OPTOMATIC_DB", "OPTOMATIC_SEARCH", "OPTOMATIC_DEFINITION"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def start(here, tmp_path, start_worker):
    """Start workers in that directory; what still runs at the end is killed."""
    settings = {"OPTOMATIC_LEASE": "1", "OPTOMATIC_CACHE_DIR": str(tmp_path / "cache")}
    return partial(start_worker, None, cwd=here, **settings)


def leave(uri, name, numbers, definition="sweep", **options):
    """Submit a search as a driver script does, that leaves it to workers."""
    space = {"x": list(numbers)}
    return MongoSearch(
        functions.parabola, space, db=uri, name=name, definition=definition, **options
    ).submit()


def claims(uri, numbers):
    """Return when the units of these x were claimed, and whether all of them are completed."""
    with MongoClient(uri) as client:
        units = list(client.get_default_database()["units"].find())
    found = [unit for unit in units if unit["params"]["x"] in numbers]
    assert len(found) == len(numbers)
    return [u["claimed_at"] for u in found], all(u["state"] == "completed" for u in found)


def test_the_searches_of_a_file_are_worked_off_one_after_another(uri, here, start):
    leave(uri, "trees", range(12))
    leave(uri, "boosting", range(100, 112))
    leave(uri, "of somebody else", range(200, 203), definition=None)
    process = start("--until-empty")
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "search definition sweep.optomatic.toml: its searches are trees, boosting" in log
    assert out.startswith("optomatic worker ")
    trees, trees_over = claims(uri, range(12))
    boosting, boosting_over = claims(uri, range(100, 112))
    assert trees_over
    assert boosting_over
    assert max(trees) < min(boosting)  # what is claimed together has one time
    assert claims(uri, range(200, 203)) == ([None] * 3, False)


def test_a_running_worker_follows_its_file(uri, here, start):
    """Names are allowed whose searches begin later, also once others are worked off."""
    add(path_of("sweep"), "trees", uri)
    process = start()
    wait_for(lambda: (here / ".sweep.optomatic.toml.lock").exists())
    leave(uri, "trees", range(3))
    wait_for(lambda: claims(uri, range(3))[1], process)
    leave(uri, "boosting", range(100, 103))
    wait_for(lambda: claims(uri, range(100, 103))[1], process)
    process.terminate()
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "its searches are trees, boosting" in log


def test_the_password_is_given_beside_the_file(auth_server, here, start, capsys):
    uri = auth_server.uri("definition", user="ann", password="the%20right%20one")
    leave(uri, "trees", [1])
    leave(uri, "boosting", [2], definition=None)
    assert "right" not in (here / "sweep.optomatic.toml").read_text()
    assert main(["--until-empty"]) == 1
    assert (
        'optomatic worker --db "$OPTOMATIC_DB" --definition sweep.optomatic.toml'
        in capsys.readouterr().err
    )
    process = start("--until-empty", "--definition", "sweep", OPTOMATIC_DB=uri)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert [claims(uri, [x])[1] for x in (1, 2)] == [True, False]
    assert "right" not in out + log


# -- what is decided without a process -----------------------------------------------------


def test_of_several_files_one_has_to_be_named(here, capsys):
    add(path_of("one"), "trees", None)
    add(path_of("two"), "boosting", "mongodb://host/iris")
    assert main([]) == 1
    said = capsys.readouterr().err
    assert "(one.optomatic.toml, two.optomatic.toml)" in said
    assert "--definition one.optomatic.toml" in said
    options = parser({"OPTOMATIC_DEFINITION": "two"}).parse_args([])
    assert configuration_of(None, [], options.definition)[1]() == ("boosting",)
    options = parser({"OPTOMATIC_DEFINITION": "two"}).parse_args(["--definition", "./one"])
    assert configuration_of(None, [], options.definition)[1]() == ("trees",)


def test_a_given_database_wins_over_a_file(here, caplog):
    caplog.set_level("INFO")
    add(path_of("sweep"), "trees", "mongodb://host/iris")
    found = configuration_of("mongodb://host/iris", [], None)
    assert (found[0], found[1]) == ("mongodb://host/iris", None)
    assert "is not used, as a database is named" in caplog.text
    assert "--definition sweep.optomatic.toml uses it" in caplog.text


def test_several_searches_are_named_on_the_command_line_in_place_of_the_variable():
    from_environ = parser({"OPTOMATIC_SEARCH": "a b,c"})
    assert from_environ.parse_args([]).search == ["a b,c"]
    assert from_environ.parse_args(["--search", "b", "--search", "a"]).search == ["b", "a"]
    assert parser({}).parse_args([]).search == []


def test_a_named_file_is_of_the_named_database(here):
    add(path_of("sweep"), "trees", "mongodb://ann:secret@host/iris")
    found = configuration_of("mongodb://bob:hidden@host:27017/iris?w=1", [], path_of("sweep"))
    assert found[0] == "mongodb://bob:hidden@host:27017/iris?w=1"
    assert found[1]() == ("trees",)
    with pytest.raises(DefinitionError, match="is of another database") as raised:
        configuration_of("mongodb://bob:hidden@host/other", [], path_of("sweep"))
    assert "hidden" not in str(raised.value)
    with pytest.raises(DefinitionError, match="cannot be read"):
        configuration_of(None, [], path_of("swept"))


def test_searches_that_are_named_stand_in_place_of_those_of_the_file(here):
    add(path_of("sweep"), "trees", "mongodb://host/iris")
    found = configuration_of(None, ["boosting"], None)
    assert found[0] == "mongodb://host/iris"
    assert found[1]() == ["boosting"]


def test_without_a_file_all_is_as_it_was(here):
    found = configuration_of(None, [], None)
    assert (found[0], found[1]) == (None, None)


def test_a_file_that_is_no_use_any_more_changes_nothing(here, caplog):
    path = path_of("sweep")
    add(path, "trees", "mongodb://host/iris")
    names = FromFile(path, Definition("mongodb://host/iris", ("trees",)))
    assert names() == ("trees",)
    for content in (
        "schema = 7",
        'schema = 1\ndb = "mongodb://other/iris"\nsearches = ["x"]',
        None,
    ):
        path.unlink() if content is None else path.write_text(content)
        assert names() == names() == ("trees",)
    said = [record.getMessage() for record in caplog.records]
    assert [any(part in line for line in said) for part in ("schema is 7", "No such file")]
    assert len(said) == 3
    add(path, "boosting", "mongodb://host/iris")
    assert names() == ("boosting",)


# -- claims of one search before another ---------------------------------------------------


def claim(worker, *, busy):
    """Have `worker` look at the queue with one idle child; return what it has then."""
    worker._pool.busy = lambda: busy
    worker._idle.hurry()
    assert worker._dispatch._claim(1)
    return list(worker._reservations.units.values())


def test_units_that_run_alone_are_not_overtaken_by_the_next_search(queue, make_worker):
    first = queue.submit(Sleeper(), [{"value": 1}], name="first")
    queue.submit(Sleeper(), [{"value": 2}], name="second")
    queue.units.update_many({"wanted_by": first}, {"$set": {"losses": 1}})
    worker = make_worker(search=_searches(queue.store, lambda: ["first", "second"]))
    assert claim(worker, busy=True) == []
    assert worker.idle_for() is None
    (one,) = claim(worker, busy=False)
    assert queue.units.find_one({"_id": one.job.id})["wanted_by"] == [first]


def test_an_idle_worker_is_rung_when_its_search_joins_what_is_queued(queue, make_worker):
    """It would look by itself more than a minute later."""
    values = [{"value": n} for n in range(3)]
    queue.submit(Sleeper(), values, name="first")
    worker = make_worker(search=_searches(queue.store, lambda: ["second"]), lasting=True)
    worker._idle._backoff._rng = lambda: 0.9
    thread = threading.Thread(target=worker.run, args=(lambda: False,))
    thread.start()
    try:
        wait_for(lambda: worker._idle.time_left() > 60.0)
        assert queue.states() == {"queued": 6}
        queue.submit(Sleeper(), values, name="second")
        wait_for(lambda: queue.states() == {"completed": 6}, seconds=55.0)
    finally:
        worker.stop(grace=0.0)
        thread.join(120)
    assert not thread.is_alive()


class Commands(monitoring.CommandListener):
    """Keeps the reads and the claims that were sent to one database."""

    def __init__(self, database):
        self.database = database
        self.sent = []

    def started(self, event):
        if event.database_name == self.database and event.command_name in ("find", "findAndModify"):
            keep = (event.command_name, "filter", "query", "sort", "projection", "limit", "update")
            self.sent.append({k: v for k, v in event.command.items() if k in keep})

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def test_a_claim_costs_the_same_however_many_searches_are_worked_off(queue, make_worker):
    """And an index serves each look at units."""
    names = [f"search {n}" for n in range(30)]
    for n, name in enumerate(names):
        search = queue.submit(Sleeper(), [{"value": n}], name=name)
        if name != names[-1]:
            queue.units.update_many({"wanted_by": search}, {"$set": {"state": "completed"}})
    database = queue.client.get_default_database()
    commands = Commands(database.name)
    monitoring.register(commands)
    with contextlib.closing(type(queue)(queue.uri)) as watched:
        searches = _searches(watched.store, lambda: names)
        worker = make_worker(store=watched.store, search=searches)
        commands.sent.clear()
        claim(worker, busy=False)
        first = list(commands.sent)
        commands.sent.clear()
        assert len(claim(worker, busy=False)) == 2
    assert ["findAndModify" in command for command in commands.sent] == [True]
    looks = [command for command in first if "units" in command.values()]
    assert len(looks) >= len(names)
    assert len(first) - len(looks) == 1  # of all names together
    for command in first:
        plan = database.command("explain", command, verbosity="queryPlanner")["queryPlanner"]
        stages = str(plan["winningPlan"])
        assert "IXSCAN" in stages, command
        assert "COLLSCAN" not in stages, command
