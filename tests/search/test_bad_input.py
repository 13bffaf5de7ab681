"""Bad input: one clear error, soon, without a password, and nothing to trip over later."""

import socket
import threading

import numpy as np
import pytest
from estimators import Sleeper
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from optomatic import MongoSearchCV
from optomatic.errors import (
    KeyNotCertain,
    NotShippable,
    OptomaticError,
    StoreIncompatible,
    StoreRefused,
    StoreUnavailable,
    StoreURIError,
    redact,
)

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
SECRET = "s3cr3t"


def fit(db, estimator=None, grid=None, X=X, y=Y, **options):
    search = MongoSearchCV(estimator or SVC(), grid or {"C": [1, 2]}, db=db, cv=2, **options)
    return search.fit(X, y)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    "uri",
    [
        "not a uri",
        f"http://ann:{SECRET}@localhost/db",
        f"mongodb://ann:{SECRET}@:99999/db",
        f"mongodb://ann:{SECRET}@localhost:port/db",
        f"mongodb://ann:{SECRET}@@localhost/d b?x=y",
        f"mongodb://ann:{SECRET}@localhost/db?authMechanism=NOPE",
        "",
    ],
)
def test_an_address_that_is_none(uri):
    with pytest.raises(StoreURIError) as caught:
        fit(uri)
    assert SECRET not in chain_of(caught.value)


@pytest.mark.parametrize("db", [3, b"mongodb://localhost", object(), ["mongodb://localhost"]])
def test_db_is_a_string(db):
    with pytest.raises((TypeError, StoreURIError), match="db"):
        fit(db)


def test_nobody_answers():
    with pytest.raises(StoreUnavailable) as caught:
        fit(f"mongodb://ann:{SECRET}@127.0.0.1:{free_port()}/iris")
    assert SECRET not in chain_of(caught.value)


def test_a_host_that_does_not_exist():
    with pytest.raises(StoreUnavailable) as caught:
        fit(f"mongodb://ann:{SECRET}@no-such-host.invalid/iris")
    assert SECRET not in chain_of(caught.value)


def test_a_server_that_is_no_mongodb():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    ended = threading.Event()

    def answer_like_a_web_server():
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\nthis is not it at all....")

    server = threading.Thread(target=answer_like_a_web_server)
    server.start()
    try:
        with pytest.raises((StoreUnavailable, StoreIncompatible), match=r"MongoDB"):
            fit(f"mongodb://127.0.0.1:{listener.getsockname()[1]}/iris")
    finally:
        ended.set()
        server.join()
        listener.close()


def test_a_wrong_password(auth_server):
    with pytest.raises(StoreRefused) as caught:
        fit(auth_server.uri("optomatic", user="ann", password=SECRET))
    assert SECRET not in chain_of(caught.value)


def chain_of(error):
    """Everything that a traceback would print of `error`."""
    text = ""
    while error is not None:
        text += f"{error!r} {error} {getattr(error, '__notes__', '')}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


def test_scikit_learns_own_errors(uri):
    with pytest.raises(ValueError, match="Invalid parameter 'D'"):
        fit(uri, grid={"D": [1]})
    with pytest.raises(ValueError, match="empty"):
        fit(uri, grid={"C": []})
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fit(uri, y=Y[:-1])
    with pytest.raises(ValueError, match="exactly one"):
        MongoSearchCV(SVC(), db=uri).fit(X, Y)
    assert fit(uri).summary_.scored == 4  # nothing of the above is in the way


class Unshippable(Sleeper):
    def __getstate__(self):
        raise TypeError("not to be pickled")


def test_an_estimator_that_cannot_be_pickled(uri):
    with pytest.raises(NotShippable, match="not to be pickled"):
        fit(uri, Unshippable(), {"value": [1, 2]}, n_jobs=2)
    with pytest.warns(KeyNotCertain, match="not to be pickled"):
        found = fit(uri, Unshippable(), {"value": [1, 2]})
    assert found.summary_.scored == 4
    assert fit(uri, Sleeper(), {"value": [1, 2]}, n_jobs=2).summary_.scored == 4


def test_a_password_is_not_printed():
    search = MongoSearchCV(SVC(), {"C": [1]}, db=f"mongodb://ann:{SECRET}@localhost/iris")
    assert SECRET not in repr(search)
    assert SECRET not in search._repr_html_()
    assert SECRET not in repr(make_pipeline(search))
    assert SECRET not in make_pipeline(search)._repr_html_()
    assert SECRET not in repr(clone(search).get_params())
    assert "localhost/iris" in repr(search)
    assert clone(search).db == search.db == f"mongodb://ann:{SECRET}@localhost/iris"


def test_errors_have_one_base_class():
    for error in (StoreURIError, StoreUnavailable, StoreRefused, NotShippable):
        assert issubclass(error, OptomaticError)


def test_an_address_with_a_dot_in_its_database():
    with pytest.raises(StoreURIError, match="no dot"):
        fit("mongodb://localhost/my.iris")


def test_only_credentials_are_taken_out_of_a_text():
    said = redact('no mongodb:// or x. It is like "mongodb://ann:p@ss@host/n" or mongodb://host')
    assert said == 'no mongodb:// or x. It is like "mongodb://***@host/n" or mongodb://host'
