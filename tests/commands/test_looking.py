"""Verbs that look, each on a search of each kind."""

import json
import os
import re
import signal
import sys
import warnings
from datetime import datetime

import numpy as np
import pandas as pd
import pexpect
import pytest
import servers
import workers
from commands import many_searches
from pymongo import MongoClient

import optomatic
from optomatic import attach
from optomatic.store.retry import RetryingCollection

#: Verbs that print what they find of one search.
VERBS = (
    ["show"],
    ["best"],
    ["results"],
    ["results", "--splits"],
    ["errors"],
    ["explain"],
)
ALL = (["list"], ["workers"], ["top"], ["db", "check"])
ENDED = ("done", "raced", "halved", "function")


def ids(arguments):
    return " ".join(arguments)


@pytest.mark.parametrize("verb", VERBS, ids=ids)
@pytest.mark.parametrize("name", many_searches.NAMES)
def test_each_verb_on_each_kind_of_search(filled, run, verb, name):
    code, out, err = run(*verb, name, db=filled)
    as_json = run(*verb, name, "--json", db=filled)
    if verb == ["best"] and name not in (*ENDED, "ill", "running"):
        assert code == as_json[0] == 1
        assert "no best" in err
        return
    assert code == as_json[0] == 0, err + as_json[2]
    assert isinstance(json.loads(as_json[1]), list if verb[0] not in ("show", "best") else dict)
    assert "Traceback" not in err
    assert "\x1b" not in out
    assert out or verb == ["errors"]


@pytest.mark.parametrize("verb", ALL, ids=ids)
def test_each_verb_on_the_whole_store(filled, run, verb):
    code, out, err = run(*verb, db=filled)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    code, out, err = run(*verb, "--json", db=filled)
    assert (code, err) == (0, "")
    json.loads(out)


@pytest.mark.parametrize("verb", ALL, ids=ids)
def test_each_verb_on_an_empty_store(uri, run, verb):
    code, _, err = run(*verb, db=uri)
    assert code == 0, err
    code, out, err = run(*verb, "--json", db=uri)
    assert (code, err) == (0, "")
    assert json.loads(out) is not None


@pytest.mark.parametrize("verb", [*VERBS, ["cancel"], ["retry"], ["rm", "--yes"]], ids=ids)
def test_there_is_no_such_search_in_an_empty_store(uri, run, verb):
    code, out, err = run(*verb, "churn", db=uri)
    assert (code, out) == (3, "")
    assert err == ("optomatic: no search 'churn': there is none in this database. Look at --db.\n")


def test_the_list_says_how_each_search_is(filled):
    frame = optomatic.searches(filled)
    assert frame.index.name == "id"
    assert frame["began_at"].is_monotonic_decreasing
    by_name = frame.set_index("name")
    assert by_name["state"].to_dict() == {
        "running": "running",
        "abandoned": "abandoned",
        "left": "left",
        **dict.fromkeys((*ENDED, "ill"), "completed"),
    }
    assert by_name.loc["ill", ["done", "total", "failed"]].tolist() == [6, 6, 4]
    assert by_name.loc["left", ["done", "total", "failed"]].tolist() == [0, 2, 0]
    assert by_name.loc["done", ["done", "total", "failed"]].tolist() == [9, 9, 0]
    assert by_name["total"]["halved"] == 12
    assert by_name["done"]["running"] >= 8
    assert by_name["kind"]["function"] == "parabola"
    assert by_name["kind"]["done"] == "SVC"
    assert all("@" in who for who in frame["who"])
    assert by_name["best"]["function"] == 0.0
    assert by_name["best"]["running"] == 7.0
    assert np.isnan(by_name["best"]["left"])
    assert (frame["age"] > pd.Timedelta(0)).all()


def test_the_list_takes_as_many_queries_for_many_searches(filled, uri, monkeypatch):
    counts = []
    plain = RetryingCollection._try
    monkeypatch.setattr(RetryingCollection, "_try", lambda *a: counts.append(1) or plain(*a))
    optomatic.searches(uri)
    few = len(counts)
    counts.clear()
    assert len(optomatic.searches(filled)) == len(many_searches.NAMES)
    assert len(counts) <= few + 8  # the units of the one that runs are read for its best


def test_a_record_of_another_form_does_not_stop_the_list(uri, run):
    searches = servers.database(uri)["searches"]
    searches.insert_many([{"_id": "a", "v": 1, "name": 3}, {"_id": "b", "v": 99}])
    assert run("list", db=uri)[0] == 0
    assert optomatic.searches(uri).empty
    assert searches.count_documents({"state": "invalid"}) == 0  # who looks changes nothing


def test_workers_are_listed_with_their_units(filled):
    workers, running = optomatic.workers(filled), optomatic.running(filled)
    assert workers["kind"].tolist() == ["local"]
    assert workers["processes"].tolist() == [2]
    assert set(running["search"]) == {"running"}
    assert set(running["worker"]) == set(workers.index)
    assert workers["units"].sum() == len(running) >= 2
    assert running["params"].str.fullmatch(r"seconds=600\.0, value=\d").all()
    assert (running["since"] >= 0).all()
    assert (running["attempt"] == 1).all()


def test_errors_come_in_groups_with_their_params(filled, run):
    _, out, _ = run("errors", "ill", db=filled)
    assert "2 x fit: ValueError: no fit with 5: [bold]half[/] of the rows" in out
    assert "2 x given up: killed the process" in out
    assert "  params: value=5\n  splits: 0, 1\n" in out
    assert "raise ValueError" in out or "ValueError: no fit" in out
    code, out, err = run("errors", "done", db=filled)
    assert (code, out) == (0, "")
    assert err == "Nothing went wrong in done.\n"


def test_records_that_were_set_aside_are_among_the_errors(uri, run):
    optomatic.MongoSearch(len, {"x": [1]}, db=uri, name="changed").submit()
    units = servers.units(uri)
    units.update_one({}, {"$set": {"params_text": "changed"}})
    attach("changed", db=uri).to_frame()
    _, out, _ = run("errors", "changed", db=uri)
    assert "1 x set aside: " in out
    assert "does not match its checksum" in out


def test_results_come_the_best_first(filled, run):
    for name in ("done", "function", "raced"):
        rows = json.loads(run("results", name, "--json", db=filled)[1])
        scores = [row["score"] for row in rows]
        assert scores == sorted(scores, reverse=True)
        assert len(json.loads(run("results", name, "--json", "--limit", "2", db=filled)[1])) == 2
    rows = json.loads(run("results", "halved", "--json", db=filled)[1])
    assert [row["iter"] for row in rows] == [1, 1, 0, 0, 0, 0]
    assert rows[0]["candidate"] == attach("halved", db=filled).best_index_
    rows = json.loads(run("results", "ill", "--json", db=filled)[1])
    assert [row["score"] for row in rows] == [1.0, None, None]
    assert [row["param_value"] for row in rows] == [1, 5, 13]


def test_results_are_ranked_by_what_decides(uri, run):
    def scored(x):
        return {"gain": x, "loss": (x - 3) ** 2}

    directions = {"loss": "minimize", "gain": "maximize"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            optomatic.MongoSearch(
                scored, {"x": [2, 3, 5]}, direction=directions, db=uri, name="two"
            ).run()
    code, out, err = run("results", "two", "--json", db=uri)
    assert code == 0
    assert [row["param_x"] for row in json.loads(out)] == [3, 2, 5]
    ids = optomatic.searches(uri).index
    assert err.startswith("optomatic: note: 2 searches have the name 'two'. This is the latest, ")
    assert err.count("\n") == 1
    assert ids[1] in err
    assert run("results", ids[1], "--json", db=uri)[1:] == (out, "")


def test_halving_is_shown_as_one_search(filled, run):
    shown = dict(line.split(None, 1) for line in run("show", "halved", db=filled)[1].splitlines())
    assert shown["candidates"] == "4, then 2"
    assert shown["units"] == "12 completed"
    assert "8 scored" in shown["summary"].split("; then ")[0]
    assert "4 scored" in shown["summary"].split("; then ")[1]
    told = json.loads(run("show", "halved", "--json", db=filled)[1])
    assert [one["n_candidates"] for one in told["iterations"]] == [2]
    ended = datetime.fromisoformat(told["iterations"][0]["ended_at"])
    assert shown["ended"] == f"{ended:%Y-%m-%d %H:%M:%S} UTC"


def test_the_command_that_would_help_is_not_broken(filled, run):
    out = run("explain", "abandoned", db=filled)[1]
    assert f"\n    optomatic worker --db '{filled}'\n" in out


def test_the_best_is_that_of_the_search(filled, run):
    found = json.loads(run("best", "function", "--json", db=filled)[1])
    assert found == {"index": 3, "score": 0.0, "params": {"x": 3}}


def test_a_pipe_gets_all_columns_and_four_decimals(uri, run):
    optomatic.MongoSearch(third_of, {"x": [0.1, 1, 10]}, db=uri, name="thirds").run()
    frame = attach("thirds", db=uri).to_frame()
    for level in ([], ["--splits"]):
        head, *rows = run("results", "thirds", *level, db=uri)[1].splitlines()
        assert "PARAMS" in head.split()
        assert [row.split()[-1] for row in rows] == ["x=10", "x=1", "x=0.1"]
        assert all(
            f"{score:.4f}" in row.split()
            for score, row in zip(sorted(frame["score"], reverse=True), rows, strict=True)
        )
    rows = json.loads(run("results", "thirds", "--json", db=uri)[1])
    assert [row["score"] for row in rows] == [10 / 3, 1 / 3, 0.1 / 3]
    best = run("best", "thirds", db=uri)[1].split()
    assert best == ["candidate", "2", "score", "3.3333", "x", "10"]


def third_of(x):
    return x / 3


def test_a_pipe_gets_all_columns_of_a_list(filled, run):
    head, *rows = run("list", db=filled)[1].splitlines()
    assert head.split() == ["NAME", "ID", "STATE", "DONE", "FAILED", "BEST", "AGE", "WHO", "WHAT"]
    assert len(rows) == len(many_searches.NAMES)


def test_json_has_times_in_utc_and_null_for_what_is_missing(filled, run):
    rows = {row["name"]: row for row in json.loads(run("list", "--json", db=filled)[1])}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", rows["done"]["began_at"])
    assert rows["running"]["ended_at"] is None
    assert rows["left"]["best"] is None
    assert isinstance(rows["running"]["age"], float)


NOTED = """
from optomatic.commands.output import say
for words in {texts!r}:
    say(words)
print("the end")
"""


SHOW_ALL = """
import sys
from optomatic.commands.app import main
for arguments in {commands!r}:
    print("$", *arguments)
    assert main([*arguments, "--db", {uri!r}]) in (0, 1)
print("the end")
"""


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal(filled, width):
    some = [[*verb, name] for verb in VERBS for name in ("ill", "halved", "running")]
    commands = [*ALL[:2], ["top", "--once"], ALL[3], *some]
    script = SHOW_ALL.format(commands=commands, uri=filled)
    child = pexpect.spawn(
        sys.executable,
        ["-c", script],
        dimensions=(500, width),
        env=workers.environment(TERM="xterm", NO_COLOR="1", COLUMNS=""),
        encoding="utf-8",
        timeout=120,
    )
    child.expect("the end")
    lines = child.before.replace("\r", "").split("\n")
    texts = [re.sub(r"\x1b\[[0-9;?]*[a-z]", "", line) for line in lines]
    assert len(texts) > 100
    # A traceback is shown as it is.
    assert [line for line in texts if len(line) > width and not line.startswith("    ")] == []
    for search in optomatic.searches(filled).index:  # no id is wrapped or cut
        assert sum(search in line for line in texts) >= 1


def test_a_note_on_a_terminal_breaks_no_id():
    texts = [f"{'x' * n} 23da0eee7b165274cf6e6e41. Give an id." for n in range(40, 70, 7)]
    child = pexpect.spawn(
        sys.executable,
        ["-c", NOTED.format(texts=texts)],
        dimensions=(30, 80),
        env={**os.environ, "TERM": "xterm", "COLUMNS": ""},
        encoding="utf-8",
        timeout=60,
    )
    child.expect("the end")
    lines = child.before.split("\r\n")
    assert max(map(len, lines)) <= 80
    assert sum("23da0eee7b165274cf6e6e41" in line for line in lines) == len(texts)


def test_top_is_live_until_q_is_pressed(filled):
    child = pexpect.spawn(
        sys.executable,
        ["-m", "optomatic", "top", "--db", filled],
        dimensions=(30, 100),
        env={**os.environ, "TERM": "xterm"},
        encoding="utf-8",
        timeout=60,
    )
    child.expect("3 searches")
    child.send("q")
    assert ended_whole(child)


def ended_whole(child):
    """Return whether a program ended well, and gave the terminal back as it was."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus == 0 and child.before.rstrip().endswith("\x1b[?25h\x1b[?1049l")


def test_top_says_that_the_store_is_away_and_goes_on_when_it_is_back(mongod):
    server = servers.Mongod()
    child = pexpect.spawn(
        sys.executable,
        ["-m", "optomatic", "top", "--db", f"mongodb://{server.address}/away"],
        dimensions=(30, 100),
        env={**os.environ, "TERM": "xterm"},
        encoding="utf-8",
        timeout=60,
    )
    try:
        child.expect("0 searches")
        server.process.send_signal(signal.SIGSTOP)
        child.expect(r"The store has not answered for \d+s")
        server.process.send_signal(signal.SIGCONT)
        child.expect(r"\x1b\[H0 searches \| [^\r]* units/s")  # it looked again
        child.send("\x03")
        assert ended_whole(child)
    finally:
        child.close(force=True)
        server.remove()


def test_the_database_is_checked(filled, run):
    code, out, _ = run("db", "check", db=filled)
    assert code == 0
    assert re.search(r"^server +replica set \w+ of 1: 127\.0\.0\.1:\d+$", out, re.MULTILINE)
    assert re.search(r"^version +\d+\.\d+\.\d+$", out, re.MULTILINE)
    assert re.search(r"^write concern +majority, journaled$", out, re.MULTILINE)
    assert re.search(r"^indexes +all 12 are there$", out, re.MULTILINE)
    MongoClient(filled).get_default_database()["units"].drop_index("invalid")
    code, out, _ = run("db", "check", db=filled)
    assert code == 1
    assert "missing (units.invalid)" in out


def test_the_check_says_which_rights_are_missing(auth_server, run):
    uri = auth_server.uri("readable", "ann", "the%20right%20one")
    with MongoClient(uri) as client:
        roles = [{"role": "read", "db": "readable"}]
        client.admin.command("createUser", "bob", pwd="s3cr3t", roles=roles)
    code, out, err = run("db", "check", db=auth_server.uri("readable", "bob", "s3cr3t"))
    assert code == 1
    assert "the user may not: insert, update, remove, createIndex." in out
    assert "s3cr3t" not in out + err
    assert run("list", db=auth_server.uri("readable", "bob", "s3cr3t"))[0] == 0
