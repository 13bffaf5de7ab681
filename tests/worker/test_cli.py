"""``python -m optomatic.worker``: real processes, real signals."""

import json
import re
import signal
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from estimators import Misbehaver, Sleeper
from waiting import wait_for

import optomatic
from optomatic._uri import hosts_and_database
from optomatic.errors import shown
from optomatic.worker.cli import configuration_of, main, parser

SECRET = "s3cr3t"


def values(*numbers):
    return [{"value": number} for number in numbers]


def ran(note):
    """Return the lines that estimators have written."""
    return note.read_text().splitlines() if note.exists() else []


def test_it_says_that_it_is_ready_and_ends_when_all_is_done(queue, worker):
    queue.submit(Sleeper(), values(*range(10)))
    process = worker("--processes", "2", "--until-empty")
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    first = out.splitlines()[0]
    hosts, database = hosts_and_database(queue.uri)
    place = f"database {database} at {hosts[0]}"
    assert re.fullmatch(rf"optomatic worker \w{{4}}: 2 processes, ready, {place}", first)
    assert "20 units scored" in log
    assert queue.states() == {"completed": 20}


def test_it_scores_for_one_search_alone_if_told_so(queue, worker):
    queue.submit(Sleeper(), values(1))
    mine = queue.submit(Sleeper(), values(2))
    assert worker("--search", mine, "--until-empty").wait(120) == 0
    assert queue.states() == {"completed": 2, "queued": 2}


def test_a_search_is_known_by_its_name_also_if_it_begins_later(queue, worker):
    process = worker("--search", "mine", "--max-units", "2")
    queue.submit(Sleeper(), values(1))
    late = queue.submit(Sleeper(), values(2), name="mine")
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert queue.states() == {"completed": 2, "queued": 2}
    assert queue.over(late)()


def test_it_ends_after_so_many_units(queue, worker):
    queue.submit(Sleeper(), values(*range(20)))
    process = worker("--max-units", "7", "--processes", "2")
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert queue.states() == {"completed": 7, "queued": 33}
    assert "as many units as it was to" in log


def test_it_is_gone_by_its_deadline_and_gives_back_what_runs(queue, worker, tmp_path):
    queue.submit(Misbehaver(how="hang", note=str(tmp_path / "note")), values(13))
    process = worker("--deadline", "4s", "--grace", "0.5")
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "deadline" in log
    assert queue.states() == {"queued": 2}
    assert queue.field("losses") == [0, 0]


def test_it_takes_what_requires_its_tags_and_no_others(queue, worker):
    """Its tags, and all other settings, come from the environment too."""
    queue.submit(Sleeper(), values(1), requires=("gpu",))
    queue.submit(Sleeper(), values(2), requires=("big", "gpu"))
    queue.submit(Sleeper(), values(3), requires=("fast",))
    queue.submit(Sleeper(), values(4))
    settings = {"OPTOMATIC_UNTIL_EMPTY": "1", "OPTOMATIC_PROCESSES": "3"}
    process = worker("--tag", "gpu", OPTOMATIC_TAG="big,huge", **settings)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert ": 3 processes," in out
    assert queue.states() == {"completed": 6, "queued": 2}


def test_it_logs_a_line_for_each_change_is_quiet_when_idle_and_ends_when_so_for_long(queue, worker):
    queue.submit(Sleeper(), values(1))
    process = worker("--max-idle", "3")
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    lines = [line.split(" ", 3)[3] for line in log.splitlines()]
    name = lines[0].split()[1]
    assert lines == [
        f"worker {name} is at work, 0 units scored so far",
        f"worker {name} is idle, 2 units scored so far",
        f"worker {name} ends: 2 units scored, 0 of them with failures, 0 crashes",
    ]


def test_a_killed_worker_loses_its_units_to_another_after_the_lease(queue, worker, tmp_path):
    note = tmp_path / "note"
    search = queue.submit(Misbehaver(how="hang", note=str(note)), values(13))
    first = worker()
    wait_for(lambda: len(ran(note)) == 1, first)
    child = int(ran(note)[0].split()[0])
    first.kill()
    first.wait()
    wait_for(lambda: not psutil.pid_exists(child))
    held = queue.count(state="running", started=True)
    assert held == 1
    # On another host nobody can look for the process: only the end of the lease tells.
    queue.client.get_default_database("optomatic")["workers"].update_many(
        {}, {"$set": {"process.host": "elsewhere", "process.boot": "another"}}
    )
    # What was lost runs while its worker has nothing else, so each takes one.
    worker(), worker()
    wait_for(lambda: len(ran(note)) == 3)
    assert queue.count(losses=1, runs=2) == 1
    queue.store.jobs.cancel(search)


def test_units_of_a_killed_worker_are_taken_by_the_next_at_once(queue, worker, tmp_path):
    note = tmp_path / "note"
    queue.submit(Misbehaver(how="hang", note=str(note)), values(13))
    first = worker(OPTOMATIC_LEASE="1000")
    wait_for(lambda: len(ran(note)) == 1, first)
    first.kill()
    first.wait()
    worker(), worker()
    wait_for(lambda: len(ran(note)) == 3)


def test_sigterm_gives_back_and_lets_the_running_ones_finish(queue, worker, tmp_path):
    note = tmp_path / "note"
    queue.submit(Misbehaver(seconds=0.5, note=str(note)), values(*range(10)))
    process = worker("--processes", "2")
    wait_for(lambda: len(ran(note)) == 2, process)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert queue.states() == {"completed": 2, "queued": 18}
    assert set(queue.field("losses")) == {0}


def test_after_the_grace_it_gives_back_what_runs(queue, worker, tmp_path):
    note = tmp_path / "note"
    queue.submit(Misbehaver(how="hang", note=str(note)), values(13))
    process = worker("--grace", "0.2")
    wait_for(lambda: len(ran(note)) == 1, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    assert queue.states() == {"queued": 2}
    assert queue.field("losses") == [0, 0]


def test_a_second_signal_ends_it_at_once(queue, worker, tmp_path):
    note = tmp_path / "note"
    queue.submit(Misbehaver(how="hold", note=str(note)), values(13))
    process = worker("--grace", "1000")
    wait_for(lambda: len(ran(note)) == 1, process)
    child = int(ran(note)[0].split()[0])
    # Two that are sent at once may arrive as one.
    wait_for(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None)
    assert process.wait(120) == 128 + signal.SIGTERM
    wait_for(lambda: not psutil.pid_exists(child))


def test_a_store_that_is_not_there_is_exit_code_1_without_the_password(worker):
    process = worker(db="mongodb://ann:secret@127.0.0.1:9/db?serverSelectionTimeoutMS=300")
    out, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "optomatic worker: " in log
    assert "secret" not in out + log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    "arguments",
    [
        ["--processes", "0"],
        ["--processes", "many"],
        ["--lease", "0"],
        ["--lease", "soon"],
        ["--grace", "-1"],
        ["--max-idle", "nan"],
        ["--unknown"],
        ["--tag", "a b"],
        ["--max-units", "0"],
        ["--cache-size", "much"],
        ["--deadline", "tomorrow"],
        *(
            [option, value]
            for option in (
                *("--processes", "--max-units", "--max-idle", "--grace", "--lease"),
                *("--deadline", "--cache-size"),
            )
            for value in ("", "nan", "inf", "-1", "9" * 30, "9" * 5_000, "1e400", "a\0", "a\nb")
        ),
        *([option, ""] for option in ("--db", "--search", "--definition", "--cache-dir", "--tag")),
        ["--deadline", "0001-01-01T00:00"],
        ["--deadline", "9999-12-31"],
        ["--search", "x" * (17 << 20)],
        ["--definition", "x" * (17 << 20)],
        ["--cache-dir", "x" * (17 << 20)],
        ["--db", "x" * (17 << 20)],
        ["--lease", "x" * (17 << 20)],
        ["--definition", "a\0b"],
        ["--definition", "~nobody-has-this-name/a"],
        ["--cache-dir", "a\0b"],
        ["--cache-dir", "~nobody-has-this-name/a"],
        ["--tag", "a\udc80 b"],
        ["--db"],
        ["--db", "foo"],
        ["--db", f"ann:{SECRET}@localhost/iris"],
        ["--db", f"mongodb://ann:{SECRET}@:99999/iris"],
        ["--db", "mongodb://localhost/my.iris"],
        ["--db", "mongodb://localhost/iris?tls=true&tlsCAFile=/no/such/file"],
        ["--d", f"mongodb://ann:{SECRET}@localhost/iris"],
        [f"mongodb://ann:{SECRET}@localhost/iris"],
        [f"ann:{SECRET}@localhost"],
        ["--lease", f"mongodb://ann:{SECRET}@localhost/iris"],
    ],
    ids=lambda arguments: shown(" ".join(arguments))[:50],
)
def test_wrong_usage_is_exit_code_2_and_one_line(arguments, capsys, monkeypatch):
    monkeypatch.delenv("OPTOMATIC_DB", raising=False)
    assert exit_code_of(arguments) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith("optomatic worker: ")
    assert said.endswith("\n")
    assert said.count("\n") == 1
    assert len(said) < 1_200
    assert "Nothing was" in said
    assert SECRET not in said


def exit_code_of(arguments):
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


def test_an_address_that_is_none_is_told_with_an_example(capsys):
    assert exit_code_of(["--db", "foo"]) == 2
    assert '"mongodb://host:27017/name"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPTOMATIC_UNTIL_EMPTY", "maybe"),
        ("OPTOMATIC_UNTIL_EMPTY", "2"),
        ("OPTOMATIC_PROCESSES", "9" * 30),
        ("OPTOMATIC_MAX_UNITS", "9" * 5_000),
        ("OPTOMATIC_MAX_IDLE", "soon"),
        ("OPTOMATIC_DEADLINE", "soon"),
        ("OPTOMATIC_GRACE", "-1"),
        ("OPTOMATIC_LEASE", "0"),
        ("OPTOMATIC_CACHE_SIZE", "1e400"),
        ("OPTOMATIC_CACHE_DIR", "~nobody-has-this-name/a"),
        ("OPTOMATIC_DEFINITION", "."),
        ("OPTOMATIC_SEARCH", "x" * 2_000),
        ("OPTOMATIC_TAG", "a;b"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_named(variable, value, capsys, monkeypatch):
    monkeypatch.setenv(variable, value)
    assert exit_code_of([]) == 2
    said = capsys.readouterr().err
    assert variable in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "meant"), [("1", True), ("Yes", True), ("true", True), ("0", False), ("off", False)]
)
def test_until_empty_is_yes_or_no(value, meant):
    assert parser({"OPTOMATIC_UNTIL_EMPTY": value}).parse_args([]).until_empty is meant
    assert parser({"OPTOMATIC_UNTIL_EMPTY": value}).parse_args(["--until-empty"]).until_empty


def test_a_worker_that_is_given_nonsense_prints_one_line_and_ends(worker):
    process = worker("--processes", "1" * 30)
    out, log = process.communicate(timeout=120)
    assert (process.returncode, out, log.count("\n")) == (2, "", 1)


def test_the_address_of_a_worker_is_masked_in_what_it_was_told():
    told = parser({"OPTOMATIC_DB": f"mongodb://ann:{SECRET}@host/iris"}).parse_args([])
    assert SECRET not in repr(told)
    assert SECRET not in repr(configuration_of(told.db, [], None))
    assert configuration_of(told.db, [], None)[0] == f"mongodb://ann:{SECRET}@host/iris"


@pytest.mark.parametrize("columns", [80, 160])
def test_the_help_names_every_variable_and_fits_the_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("OPTOMATIC_DB", f"mongodb://ann:{SECRET}@host/db")
    monkeypatch.setenv("COLUMNS", str(columns))
    assert exit_code_of(["--help"]) == 0
    said = capsys.readouterr().out
    sources = Path(optomatic.__file__).parent.rglob("*.py")
    named = {n for path in sources for n in re.findall(r"\bOPTOMATIC_[A-Z_]+", path.read_text())}
    options = set(re.findall(r"--([a-z-]+)[ \n]", said)) - {"help", "version"}
    named |= {"OPTOMATIC_" + name.upper().replace("-", "_") for name in options}
    assert {"OPTOMATIC_HOME", "OPTOMATIC_MONGOD", "OPTOMATIC_LOG_FORMAT"} <= named
    named.remove("OPTOMATIC_DASHBOARD_TOKEN")  # no worker reads it
    assert [name for name in sorted(named) if name not in said] == []
    assert max(map(len, said.splitlines())) <= columns
    assert SECRET not in said


def test_it_says_which_version_it_is(capsys):
    assert exit_code_of(["--version"]) == 0
    assert capsys.readouterr().out == f"optomatic {optomatic.__version__}\n"


def test_the_help_names_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.startswith("usage: optomatic worker ")


@pytest.mark.parametrize(("given", "variable"), [(["--log-format", "json"], ""), ([], "json")])
def test_as_json_each_line_is_an_object(given, variable, queue, worker):
    search = queue.submit(Sleeper(), [*values(1, 2), {"value": "no number"}], name="churn")
    queue.submit(Misbehaver(how="speak"), values(13), name="prints")
    process = worker(*given, "--until-empty", OPTOMATIC_LOG_FORMAT=variable)
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    start = json.loads(out)
    assert start["message"].startswith("optomatic worker ")
    assert (start["processes"], start["tags"]) == (1, [])
    assert start["store"].startswith("database ")
    printed = [line for line in log.splitlines() if line == "printed by a unit"]
    assert len(printed) == 2
    lines = [json.loads(line) for line in log.splitlines() if line != "printed by a unit"]
    assert {line["worker"] for line in [start, *lines]} == {start["worker"]}
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)
    end = lines[-1]
    assert (end["level"], end["scored"], end["failed"], end["crashes"]) == ("INFO", 8, 2, 0)
    assert queue.over(search)()


def test_as_json_a_signal_and_what_ends_it_are_objects_too(queue, worker):
    process = worker("--log-format", "json")
    assert json.loads(process.stdout.readline())["level"] == "INFO"
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=120)
    messages = [json.loads(line)["message"] for line in log.splitlines()]
    assert "optomatic worker: SIGTERM, ending" in messages
    assert "ends: 0 units scored" in messages[-1]
    gone = "mongodb://ann:secret@127.0.0.1:9/db?serverSelectionTimeoutMS=300"
    process = worker("--log-format", "json", db=gone)
    _, log = process.communicate(timeout=120)
    (line,) = map(json.loads, log.splitlines())
    assert (process.returncode, line["level"]) == (1, "ERROR")
    assert "secret" not in log
