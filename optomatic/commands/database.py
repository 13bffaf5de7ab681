"""optomatic db: the database itself."""

from __future__ import annotations

import sys
from dataclasses import asdict

import typer

from optomatic.commands.ending import FAILED
from optomatic.commands.options import Db, Json
from optomatic.commands.tables import Column, show_table
from optomatic.commands.values import one_line
from optomatic.results.as_json import json_of


def check(db: Db = None, json: Json = False) -> None:
    """Look at the database: server, version, rights, write concern, indexes, size.

    Changes nothing. Exit code 1 if there is something to mend.
    """
    from optomatic.search.overview import check_database

    found = check_database(db)
    if json:
        sys.stdout.write(json_of(asdict(found)) + "\n")
    else:
        fields = {name.replace("_", " "): value for name, value in asdict(found).items()}
        problems = fields.pop("problems")
        rows = [[name, one_line(value)] for name, value in fields.items()]
        rows += [["problem", one_line(problem)] for problem in problems]
        show_table((Column(""), Column("", folds=20)), rows)
    if found.problems:
        raise typer.Exit(FAILED)
