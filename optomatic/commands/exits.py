"""Exit codes, and errors and notes as lines on stderr."""

from __future__ import annotations

import sys
import textwrap
import warnings
from typing import NoReturn, TextIO

from optomatic._uri import redact
from optomatic.commands.table_layout import one_line, terminal_width
from optomatic.errors import OptomaticError, SearchRunning, StoreURIError

FINE, FAILED, USAGE, NO_SEARCH, RUNS = range(5)
#: Of the shell: ended by Ctrl-C.
INTERRUPTED = 130


EXIT_CODES = """\
Exit codes: 0 fine; 1 the database cannot be used, or something failed; 2 wrong usage; 3 no such
search; 4 refused, as the search runs.
"""


class Refused(Exception):
    """A command that cannot do what it was asked; its text goes to stderr."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, SearchRunning):
        return RUNS
    if isinstance(error, StoreURIError):
        return USAGE
    # What the parser of the command line raises has its own.
    return int(getattr(error, "exit_code", FAILED))


def text_of(error: Exception) -> str | None:
    """Return an error as one line; None if it is a defect of this program."""
    if hasattr(error, "format_message"):
        message = str(error.format_message()).rstrip(".")
        return f"{message}{'' if message.endswith('?') else '.'} See optomatic --help."
    if isinstance(error, OptomaticError | Refused | ValueError | OSError | ImportError):
        return str(error)
    return None


def say(text: str) -> None:
    """Write `text` as one line to stderr; on a terminal no word is broken."""
    line = f"optomatic: {one_line(redact(text))}"
    if sys.stderr.isatty():
        line = textwrap.fill(line, terminal_width(), break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{line}\n")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning of the library as a line, without the code that it comes from."""
    say(f"note: {message}")


def plain_warnings() -> None:
    """Write warnings as lines from now on."""
    warnings.showwarning = show_warning


def refuse(text: str, code: int = USAGE) -> NoReturn:
    """End the command."""
    raise Refused(text, code)
