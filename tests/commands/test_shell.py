"""The command as the shell sees it: completion, pipes, exit codes, help."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import functions
import pexpect
import pytest

import optomatic
from optomatic import MongoSearch
from optomatic.commands.exits import EXIT_CODES
from optomatic.search import database
from optomatic.worker.cli import parser

BIN = Path(sys.executable).parent
SECRET = "s3cr3t"


@pytest.fixture
def named(uri):
    """Return the address of a store with searches of some names."""
    for name in ("churn", "churn-2", "two words", "a:b", "revenue"):
        MongoSearch(functions.parabola, {"x": [1]}, db=uri, name=name).submit()
    return uri


def ran(command, **environ):
    """Run a command in bash."""
    own = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environ}
    return subprocess.run(
        ["bash", "-c", command], env=own, capture_output=True, text=True, timeout=120
    )


def test_importing_the_package_brings_no_command_line():
    script = (
        "import sys, optomatic, optomatic.search.grid_search\n"
        "print({'typer', 'click'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout == "set()\n"


def test_help_and_completion_do_without_pandas():
    script = "import sys, optomatic.commands.app; print({'pandas'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout == "set()\n"


def test_help_tells_of_exit_codes_and_where_it_looks(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert " ".join(EXIT_CODES.split()) in " ".join(out.split())
    assert "$OPTOMATIC_DB" in out
    assert run() == (code, out, err)
    for verb in ("list", "show", "top", "workers", "errors", "best", "results", "explain",
                 "export", "plot", "cancel", "retry", "rm", "db", "worker"):  # fmt: skip
        assert f"\n  {verb} " in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_its_version(run):
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, "optomatic")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["lst"], 2, "Did you mean 'list'?"),
        (["list", "--jsn"], 2, "--json"),
        (["show"], 2, "SEARCH"),
        (["db"], 2, "command"),
        (["results", "x", "--limit", "-1"], 2, "--limit"),
        (["list", "--db", f"ann:{SECRET}@host"], 2, "not an address"),
        (["export", "churn"], 2, "--output"),
        (["worker", "--nonsense"], 2, "--nonsense"),
    ],
    ids=lambda value: " ".join(value)[:25] if isinstance(value, list) else None,
)
def test_errors_are_a_line_and_an_exit_code(arguments, code, said):
    found = subprocess.run(
        [sys.executable, "-m", "optomatic", *arguments], capture_output=True, text=True
    )
    assert found.returncode == code, found.stderr
    assert found.stdout == ""
    assert said in found.stderr
    assert found.stderr.count("\n") == 1
    assert SECRET not in found.stderr


def test_a_store_that_is_away_is_told_of_in_a_line(run, monkeypatch):
    monkeypatch.setattr(database, "open_store", partial(database.open_store, patience=0.5))
    code, out, err = run("list", db=f"mongodb://ann:{SECRET}@127.0.0.1:1/x")
    assert (code, out) == (1, "")
    assert "No MongoDB" in err
    assert err.count("\n") == 1
    assert SECRET not in err


def test_misspelt_names_are_suggested(named, run):
    code, out, err = run("show", "chrun", db=named)
    assert (code, out) == (3, "")
    assert err == "optomatic: no search 'chrun'; did you mean 'churn' or 'churn-2'?\n"


def test_a_closed_pipe_is_no_error(named):
    found = ran("optomatic list | head -n 1; echo ${PIPESTATUS[0]}", OPTOMATIC_DB=named)
    assert found.stdout.split("\n")[0].startswith("NAME")
    assert found.stdout.endswith("\n0\n")
    assert found.stderr == ""
    closed = ran("optomatic list --json | exec cat <&- ; true", OPTOMATIC_DB=named)
    assert "Traceback" not in closed.stderr
    assert "BrokenPipe" not in closed.stderr


def test_the_worker_takes_all_of_its_arguments(named, run):
    found = ran("optomatic worker --help", OPTOMATIC_DB=named)
    assert found.returncode == 0
    assert found.stdout == parser({}).format_help()
    found = ran("optomatic worker --until-empty --search churn", OPTOMATIC_DB=named)
    assert found.returncode == 0
    assert " 1 units scored" in found.stderr or "1 unit scored" in found.stderr


def in_shell(command, uri, ready):
    """Return a shell that people type into."""
    child = pexpect.spawn(
        command[0],
        command[1:],
        env={
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "OPTOMATIC_DB": uri,
            "TERM": "dumb",
            "INPUTRC": "/dev/null",
        },
        encoding="utf-8",
        timeout=60,
    )
    child.sendline(f"{ready}; echo rea''dy")
    child.expect("\nready")
    return child


BASH = 'eval "$(_OPTOMATIC_COMPLETE=source_bash optomatic)"'
ZSH = 'autoload -Uz compinit; compinit -u -D; eval "$(_OPTOMATIC_COMPLETE=source_zsh optomatic)"'


@pytest.mark.parametrize(
    ("command", "ready"),
    [
        (["bash", "--norc", "--noprofile", "-i"], BASH),
        pytest.param(
            ["zsh", "-f", "-i"],
            ZSH,
            marks=pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh here"),
        ),
    ],
    ids=["bash", "zsh"],
)
def test_names_and_verbs_complete(named, command, ready):
    shell = in_shell(command, named, ready)
    shell.send("optomatic show rev\t")
    shell.expect("show revenue")
    shell.send("\x15optomatic resu\t")
    shell.expect("optomatic results")
    shell.close(force=True)


#: What is typed in bash, and what becomes of it.
TYPED = {
    "two\\ w": "two\\ words ",
    '"two w': '"two words" ',
    "a": "a\\:b ",
    "a:": "a:b ",
    "a\\:": "a\\:b ",
    "--db={named} rev": "--db={named} revenue ",
    '--db "$OTHER" rev': '--db "$OTHER" revenue ',
}


def test_names_with_blanks_and_colons_complete_in_bash(named):
    shell = in_shell(["bash", "--norc", "--noprofile", "-i"], "mongodb://127.0.0.1:1/x", BASH)
    shell.sendline(f"export OTHER='{named}' OPTOMATIC_DB='{named}'; stty cols 300; echo se''t")
    shell.expect("\nset")
    for typed, becomes in TYPED.items():
        shell.send(f"\x15optomatic show {typed.format(named=named)}\t")
        shell.expect_exact(f"optomatic show {becomes.format(named=named)}")
    shell.close(force=True)


def completed(*words, kind="complete_bash", **environ):
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    asked |= {"_TYPER_COMPLETE_ARGS": " ".join(words), "_OPTOMATIC_COMPLETE": kind}
    found = ran("optomatic", **asked, **environ)
    assert found.stderr == ""
    return found.stdout.split("\n")[:-1]


def test_other_shells_are_offered_the_id_of_a_name_that_they_would_take_apart(named):
    offered = " ".join(completed("optomatic", "show", "", kind="complete_zsh", OPTOMATIC_DB=named))
    ids = optomatic.searches(named)["name"]
    assert all(name in offered for name in ("churn", "churn-2", "revenue"))
    assert all(own in offered for own, name in ids.items() if name in ("two words", "a:b"))
    assert "two words" not in offered


def test_completion_is_silent_where_the_store_is_away(tmp_path):
    words = ("optomatic", "show", "x")
    assert not any(completed(*words, OPTOMATIC_DB="mongodb://127.0.0.1:1/x"))
    assert not any(completed(*words, OPTOMATIC_DB="nonsense"))
    assert not any(completed(*words, OPTOMATIC_HOME=str(tmp_path)))
    assert os.listdir(tmp_path) == []  # no private server is started for that
