"""A store with searches of all kinds, which tests only look at."""

import uuid

import pytest
from commands import many_searches
from pymongo import MongoClient

from optomatic.commands.app import main


@pytest.fixture(scope="session")
def filled(one_node):
    """Return the address of a store with searches of all kinds; one of them runs."""
    uri = one_node.uri(f"t{uuid.uuid4().hex[:12]}")
    running = many_searches.fill(uri)
    yield uri
    many_searches.end(running)
    with MongoClient(uri) as client:
        client.drop_database(client.get_default_database().name)


@pytest.fixture
def run(capsys):
    """Run a command in this process; return its exit code, and what it wrote."""

    def run(*arguments, db=None):
        given = [*arguments, *(["--db", db] if db else [])]
        code = main(given)
        written = capsys.readouterr()
        return code, written.out, written.err

    return run
