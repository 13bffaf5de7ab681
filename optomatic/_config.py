"""Environment variables and defaults that a user may set.

Other modules read an ``OPTOMATIC_`` variable by :func:`setting`, and take defaults from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

PREFIX = "OPTOMATIC_"
DB = "OPTOMATIC_DB"
HOME = "OPTOMATIC_HOME"
MONGOD = "OPTOMATIC_MONGOD"
IDLE_SECONDS = "OPTOMATIC_IDLE_SECONDS"
DEFINITION = "OPTOMATIC_DEFINITION"
SEARCH = "OPTOMATIC_SEARCH"
TAG = "OPTOMATIC_TAG"
MAX_UNITS = "OPTOMATIC_MAX_UNITS"
MAX_IDLE = "OPTOMATIC_MAX_IDLE"
UNTIL_EMPTY = "OPTOMATIC_UNTIL_EMPTY"
DEADLINE = "OPTOMATIC_DEADLINE"
PROCESSES = "OPTOMATIC_PROCESSES"
GRACE = "OPTOMATIC_GRACE"
LEASE = "OPTOMATIC_LEASE"
CACHE_DIR = "OPTOMATIC_CACHE_DIR"
CACHE_SIZE = "OPTOMATIC_CACHE_SIZE"
LOG_FORMAT = "OPTOMATIC_LOG_FORMAT"
DASHBOARD_TOKEN = "OPTOMATIC_DASHBOARD_TOKEN"

#: What each variable sets; docs/command_line.md has the same table for users.
VARIABLES: Mapping[str, str] = {
    DB: "URI of the database; without it the private server is used",
    HOME: "folder of the private server and of the workers' cache",
    MONGOD: "program of the private server",
    IDLE_SECONDS: "seconds without a client until the private server stops",
    DEFINITION: "search definition file that a worker works off",
    SEARCH: "name or id of the only search that a worker scores for",
    TAG: "tags of workers, separated by commas",
    MAX_UNITS: "units after which a worker ends",
    MAX_IDLE: "seconds without work after which a worker ends",
    UNTIL_EMPTY: "1: a worker ends when nothing is left to claim",
    DEADLINE: "span or time at which a worker has ended",
    PROCESSES: "processes of a worker, or auto for one a core",
    GRACE: "seconds for which running units may go on after SIGTERM",
    LEASE: "seconds without a sign of life after which other workers take over",
    CACHE_DIR: "folder in which the workers' cache is made",
    CACHE_SIZE: "size of the workers' cache",
    LOG_FORMAT: "text, or json for one object a line",
    DASHBOARD_TOKEN: "token of the dashboard; without it each start has a new one",
}

#: Set in processes that score for a worker.
INSIDE_WORKER = "_OPTOMATIC_INSIDE_WORKER"
#: Set by the shell that asks for completions.
COMPLETE = "_OPTOMATIC_COMPLETE"

#: Default of IDLE_SECONDS.
DEFAULT_IDLE = 60.0
#: Default of LEASE, in seconds.
DEFAULT_LEASE = 30.0
#: Defaults of options of a worker, as texts on its command line.
DEFAULT_PROCESSES = "1"
DEFAULT_GRACE = "10"
DEFAULT_CACHE_SIZE = "10GiB"
DEFAULT_LOG_FORMAT = "text"
#: Candidates that are drawn from distributions if a search has no `n_iter`.
DEFAULT_N_ITER = 10


def setting(variable: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the value of an environment variable, None if it is not set."""
    return (os.environ if environ is None else environ).get(variable)


def enter_worker() -> None:
    """Note that this process, and what it starts, scores for a worker."""
    os.environ[INSIDE_WORKER] = "1"


def inside_worker() -> bool:
    """Return whether this process scores for a worker; then it has neither address nor key."""
    return INSIDE_WORKER in os.environ


def variable_of(option: str) -> str:
    """Return the variable that has the meaning of an option of a worker.

    >>> variable_of("max-units")
    'OPTOMATIC_MAX_UNITS'
    """
    return PREFIX + option.upper().replace("-", "_")
