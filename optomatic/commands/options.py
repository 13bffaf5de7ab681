"""Arguments that several verbs have."""

from __future__ import annotations

from typing import Annotated

import typer

from optomatic.commands.names import complete

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URI",
        show_default=False,
        help="the store, such as mongodb://host/name ($OPTOMATIC_DB, or else the private server)",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, whole and for programs")]
Search = Annotated[
    str, typer.Argument(metavar="SEARCH", help="name or id of a search", autocompletion=complete)
]
Searches = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SEARCH", help="names or ids", autocompletion=complete, show_default=False
    ),
]
