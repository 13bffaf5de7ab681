"""A database that does not answer: what is said, and when it is given up."""

import socket

import pytest
from servers import free_port

from optomatic.errors import StoreUnavailable
from optomatic.store import connection
from optomatic.store.connection import open_store


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_port_of_this_machine_on_which_nothing_listens_is_named(host, capfd):
    port = free_port()
    with pytest.raises(StoreUnavailable, match=rf"nothing listens on {host}:{port}\)"):
        open_store(f"mongodb://ann:s3cr3t@{host}:{port}/iris")
    assert capfd.readouterr().err == ""


def test_a_line_says_what_is_waited_for_without_the_password(monkeypatch, capfd):
    monkeypatch.setattr(connection, "_SILENT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"mongodb://ann:s3cr3t@127.0.0.1:{silent.getsockname()[1]}/iris"
        with pytest.raises(StoreUnavailable, match="No MongoDB answers"):
            open_store(uri, patience=1.0)
    err = capfd.readouterr().err
    assert "optomatic: waiting for MongoDB at mongodb://" in err
    assert "s3cr3t" not in err
