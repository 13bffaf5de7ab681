"""How a command ends: its exit codes, and its errors as one line."""

from __future__ import annotations

from typing import NoReturn

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


def refuse(text: str, code: int = USAGE) -> NoReturn:
    """End the command."""
    raise Refused(text, code)
