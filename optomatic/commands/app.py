"""All verbs, and how a command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

import optomatic
from optomatic.commands import change, draw, look, pages, top
from optomatic.commands.arguments import put_together
from optomatic.commands.exits import EXIT_CODES, FINE, INTERRUPTED, code_of, text_of
from optomatic.commands.output import plain_warnings, say

_PROGRAM = "optomatic"
_EPILOG = f"""\
The database is --db, or else $OPTOMATIC_DB, or else the private server of this user. Keep an
address with a password in $OPTOMATIC_DB, because other users can see command lines.

{EXIT_CODES}

Names complete in bash and zsh after: optomatic --install-completion
(or put what --show-completion prints into your .bashrc or .zshrc)
"""


app = typer.Typer(
    help="Look at hyper-parameter searches, their workers and their results.",
    epilog=_EPILOG,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_database = typer.Typer(help="Check the database: optomatic db check.", rich_markup_mode=None)
_ALL_PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def _print_version(asked: bool) -> None:
    if asked:
        print(f"optomatic {optomatic.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="print the version, and end"
        ),
    ] = False,
) -> None:
    """Look at hyper-parameter searches, their workers and their results."""


def _work(ctx: typer.Context) -> None:
    """Score units of searches: see optomatic worker --help."""
    from optomatic.worker.cli import main as work  # brings scikit-learn, which help need not

    raise typer.Exit(work(ctx.args))


app.command("list")(look.list_searches)
app.command("show")(look.show)
app.command("top")(top.top)
app.command("workers")(look.list_workers)
app.command("best")(look.best)
app.command("results")(look.results)
app.command("errors")(look.errors)
app.command("explain")(look.explain)
app.command("export")(change.export)
app.command("plot")(draw.plot)
app.command("dashboard")(pages.dashboard)
app.command("report")(pages.report)
app.command("cancel")(change.cancel)
app.command("retry")(change.retry)
app.command("rm")(change.remove)
_database.command("check")(look.check)
app.add_typer(_database, name="db")
app.command("worker", context_settings=_ALL_PASSED_ON, add_help_option=False)(_work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    plain_warnings()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with put_together(os.environ):
            code = _run(given or ["--help"])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has enough
        _close_output()
        return FINE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        say(text_of(error) or f"unexpected {type(error).__name__}: {error}. This is a defect.")
        return code_of(error)
    return code


def _run(arguments: list[str]) -> int:
    command: Any = get_command(app)
    ended = command.main(arguments, prog_name=_PROGRAM, standalone_mode=False)
    return ended if isinstance(ended, int) else FINE


def _close_output() -> None:
    """Drop what is left in the buffer: it would raise again at the end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
