"""Where a token is needed, and where the dashboard listens."""

import socket

import pytest

from optomatic.commands.app import main
from optomatic.dashboard.web import token_for


@pytest.mark.parametrize(
    ("host", "allow_changes", "needs_one"),
    [
        ("127.0.0.1", False, False),
        ("localhost", False, False),
        ("::1", False, False),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("db.lab", False, True),
    ],
)
def test_a_token_is_needed_unless_only_this_machine_looks(host, allow_changes, needs_one):
    assert bool(token_for(host, allow_changes)) == needs_one


def test_each_start_has_a_new_token_unless_one_is_set(monkeypatch):
    assert token_for("0.0.0.0", False) != token_for("0.0.0.0", False)
    monkeypatch.setenv("OPTOMATIC_DASHBOARD_TOKEN", "a long random text")
    assert token_for("0.0.0.0", False) == "a long random text"


def test_a_port_in_use_is_reported(uri, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["dashboard", "--db", uri, "--port", port, "--no-browser"]) == 1
    assert "Give another --port" in capsys.readouterr().err
