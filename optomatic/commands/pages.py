"""Verbs that make pages: dashboard, report."""

from __future__ import annotations

import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from optomatic.commands.arguments import Db, Search, find
from optomatic.commands.exits import USAGE, refuse
from optomatic.commands.output import say
from optomatic.errors import StoreError, StoreUnavailable

_NEEDS = 'Install it with: pip install "optomatic[dashboard]"'


def dashboard(
    db: Db = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65_535, help="0: any")] = 8321,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="pages may cancel, retry and remove")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="open no browser")] = False,
) -> None:
    """Serve pages about all searches, live.

    Only this machine reaches them, unless --host says otherwise. With another --host, or with
    --allow-changes, they need the token in the address that is printed: a new one at each start, or
    that of $OPTOMATIC_DASHBOARD_TOKEN. Ctrl-C ends it.
    Needs pip install "optomatic[dashboard]".
    """
    try:
        from optomatic.dashboard.feed import Feed
        from optomatic.dashboard.processes import Processes
        from optomatic.dashboard.views import Pages
        from optomatic.dashboard.web import serve, token_for
    except ImportError as error:
        raise ImportError(
            f"The dashboard needs {error.name}, which is not installed. Nothing was started. "
            f"{_NEEDS}"
        ) from error
    _greet(db)
    processes = Processes()
    pages = Pages(Feed(db, processes, allow_changes=allow_changes))
    warnings.simplefilter("ignore")  # pages say what is wrong with a search, and at each look

    def tell(address: str) -> None:
        print(f"The dashboard is at {address} (Ctrl-C ends it)", flush=True)

    # A service manager ends it as Ctrl-C does, so that its processes end with it in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        token = token_for(host, allow_changes)
        serve(pages.app(), host=host, port=port, token=token, browser=not no_browser, say=tell)
    except KeyboardInterrupt:
        pass
    finally:
        processes.end()


def _greet(db: str | None) -> None:
    """Raise for an address that can be none; only say so if nobody answers there by now."""
    from optomatic.store.connection import open_store

    try:
        open_store(db).close()
    except StoreUnavailable as error:
        say(str(error))


def report(
    search: Search,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="ends in .html")],
    db: Db = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="default: the one that decides"),
    ] = None,
) -> None:
    """Write one HTML file with all pictures and tables of a search.

    It needs no other file and no network. Needs pip install "optomatic[plot]".
    """
    if output.suffix.lower() not in (".html", ".htm"):
        refuse(f"a report ends in .html, not {output.suffix!r}", USAGE)
    from optomatic.dashboard.html_report import write_report

    seen = find(search, db)
    try:
        write_report(seen, output, metric=metric)
    except StoreError:
        raise
    except ValueError as error:
        refuse(str(error), USAGE)
    sys.stdout.write(f"The report of {search} is in {output}.\n")
