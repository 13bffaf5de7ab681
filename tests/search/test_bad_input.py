"""Bad input: one clear error, soon, without a password, and nothing to trip over later."""

import pickle
import re
import socket
import threading

import functions
import joblib
import numpy as np
import pytest
from estimators import Sleeper
from pymongo import MongoClient
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from optomatic import MongoHalvingGridSearchCV, MongoSearch, MongoSearchCV, attach
from optomatic._uri import masked, redact
from optomatic.errors import (
    DefinitionError,
    KeyNotCertain,
    NotShippable,
    OptomaticError,
    StoreIncompatible,
    StoreRefused,
    StoreUnavailable,
    StoreURIError,
    shown,
)
from optomatic.joblib_backend.backend import OptomaticBackend

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


@pytest.fixture
def impatient(monkeypatch):
    """Give a server two seconds to answer, not eight."""
    monkeypatch.setattr("optomatic.store.connection._PATIENCE", 2.0)


def test_an_unreachable_server_is_an_error(impatient):
    with pytest.raises(StoreUnavailable) as caught:
        fit(f"mongodb://ann:{SECRET}@127.0.0.1:{free_port()}/iris")
    assert SECRET not in chain_of(caught.value)


def test_a_host_that_does_not_exist(impatient):
    with pytest.raises(StoreUnavailable) as caught:
        fit(f"mongodb://ann:{SECRET}@no-such-host.invalid/iris")
    assert SECRET not in chain_of(caught.value)


def test_a_server_that_is_no_mongodb(impatient):
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
    with pytest.raises(StoreURIError, match=r"name, 'my\.iris', has a dot in it") as caught:
        fit("mongodb://localhost/my.iris")
    assert str(caught.value).count("Nothing was stored") == 1


def test_only_credentials_are_taken_out_of_a_text():
    said = redact('no mongodb:// or x. It is like "mongodb://ann:p@ss@host/n" or mongodb://host')
    assert said == 'no mongodb:// or x. It is like "mongodb://***@host/n" or mongodb://host'
    said = redact(f"ann:{SECRET}@host and http://h/?proxyPassword={SECRET}&w=1 at 10:30")
    assert said == "***@host and http://h/?proxyPassword=***&w=1 at 10:30"


# -- addresses, whatever they look like ----------------------------------------------------

#: What people give as db, with a password in it.
ADDRESSES = {
    "whole": f"mongodb://ann:{SECRET}@localhost/iris",
    "no scheme": f"ann:{SECRET}@localhost/iris",
    "half a scheme": f"mongodb:/ann:{SECRET}@localhost/iris",
    "capitals": f"MONGODB://ann:{SECRET}@localhost/iris",
    "another scheme": f"http://ann:{SECRET}@localhost/iris",
    "no host": f"mongodb://ann:{SECRET}",
    "a line break": f"mongodb://ann:a\n{SECRET}@localhost/iris",
    "two": f"mongodb://ann:{SECRET}@localhost/a mongodb://bob:{SECRET}@localhost/b",
    "a proxy": f"mongodb://localhost/iris?proxyHost=p&proxyPassword={SECRET}&proxyUsername={SECRET}",
    "a certificate": f"mongodb://localhost/iris?tlsCertificateKeyFilePassword={SECRET}'x",
    "a token": f"mongodb://localhost/?authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
    "options that are none": f"mongodb://localhost/?{SECRET}",
    "a str of its own": np.str_(f"mongodb://ann:{SECRET}@localhost/iris"),
    "bytes": f"mongodb://ann:{SECRET}@localhost/iris".encode(),
    "a bytearray": bytearray(f"mongodb://ann:{SECRET}@localhost/iris".encode()),
    "a list": [f"mongodb://ann:{SECRET}@localhost/iris"],
    "a tuple": (f"ann:{SECRET}@a", f"ann:{SECRET}@b"),
    "nested": {"hosts": [f"ann:{SECRET}@a"]},
}


@pytest.mark.parametrize("db", ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_is_masked_whatever_it_looks_like(db):
    search = MongoSearchCV(SVC(), {"C": [1]}, db=db)
    for one in (search, clone(search), clone(clone(search)), search.set_params(db=db)):
        assert one.db == db
        assert SECRET not in repr(one) + str(vars(one)) + str(one.get_params())
    outer = make_pipeline(GridSearchCV(search, {"db": [search.db]}))
    halving = MongoHalvingGridSearchCV(SVC(), {"C": [1]}, db=db)
    for one in (search, outer, halving):
        assert SECRET not in repr(one) + one._repr_html_()
    other = MongoSearch(functions.parabola, {"x": [1]}, db=db)
    assert SECRET not in repr(other) + str(vars(other)) + str(vars(OptomaticBackend(db)))
    other.db = db
    assert SECRET not in str(vars(other))
    assert SECRET not in masked(db)
    assert masked(masked(db)) == masked(db)


@pytest.mark.parametrize(
    "kind", [kind for kind, db in ADDRESSES.items() if not str(db).startswith("mongodb://")]
)
def test_no_error_text_has_the_password_of_what_is_no_address(kind, capsys):
    db = ADDRESSES[kind]
    asked = [
        lambda: fit(db),
        lambda: MongoSearch(functions.parabola, {"x": [1]}, db=db).run(),
        lambda: MongoSearch(
            functions.parabola, {"x": [1]}, db=db, name="a", definition="a"
        ).submit(),
        lambda: attach("a", db=db),
        lambda: calls_at(db),
    ]
    for ask in asked:
        with pytest.raises(StoreURIError, match="db is not an address") as caught:
            ask()
        assert SECRET not in chain_of(caught.value)
    assert SECRET not in "".join(capsys.readouterr())


def calls_at(db, **options):
    with joblib.parallel_config(backend="optomatic", n_jobs=2, db=db, **options):
        return joblib.Parallel()(joblib.delayed(abs)(n) for n in (1, 2))


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://host/iris",
        "mongodb://a:27017,b.c:1,[::1]:2/iris?replicaSet=rs&tlsCAFile=/my certificates/ca.pem",
        "mongodb+srv://cluster.example.com/?authSource=$external",
        "mongodb://%2Ftmp%2Fmongod.sock/optomatic?directConnection=true",
    ],
)
def test_an_address_without_a_secret_is_shown_as_it_is(uri):
    assert masked(uri) == uri
    assert repr(MongoSearchCV(SVC(), {"C": [1]}, db=uri).db) == repr(uri)


def test_a_fitted_search_is_pickled_without_credentials(auth_server, monkeypatch):
    uri = auth_server.uri("pickles", user="ann", password="the%20right%20one")
    search = MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri, name="kept")
    waiting = pickle.loads(pickle.dumps(search))  # on its way to where it is run
    assert waiting.db == uri
    search_id = search.submit()
    attached = attach("kept", db=uri)
    for one in (search, attached):
        stored = pickle.dumps(one)
        assert b"right" not in stored
        assert b"ann" not in stored.replace(b"_annotations", b"")
        assert "right" not in str(vars(one))
    there = pickle.loads(pickle.dumps(attached))
    assert there.search_id == search_id
    with pytest.raises(StoreURIError, match="without its credentials"):
        there.counts()
    monkeypatch.setenv("OPTOMATIC_DB", uri)
    assert there.counts() == {"queued": 2}
    monkeypatch.setenv("OPTOMATIC_DB", uri.replace("pickles", "another"))
    with pytest.raises(StoreURIError, match="without its credentials"):
        there.counts()


def test_a_secret_in_the_options_comes_from_the_environment_again(monkeypatch):
    whole = f"mongodb://127.0.0.1:{free_port()}/iris?proxyHost=127.0.0.1&proxyPassword={SECRET}"
    lost = masked(whole)
    with pytest.raises(StoreURIError, match="without its credentials"):
        fit(lost)
    monkeypatch.setenv("OPTOMATIC_DB", whole)
    with pytest.raises(OptomaticError) as caught:
        fit(lost)
    assert "without its credentials" not in str(caught.value)
    assert SECRET not in chain_of(caught.value)


# -- what cannot be meant ------------------------------------------------------------------

LONG = "x" * (17 << 20)
DIGITS = 10**5_000


class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


def short(value):
    """Return the id of a test of `value`."""
    return shown(value)[:40]


def nothing_is_queued(uri):
    with MongoClient(uri) as client:
        return client.get_default_database()["units"].count_documents({}) == 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(MongoSearchCV, GridSearchCV), (MongoHalvingGridSearchCV, HalvingGridSearchCV)],
)
@pytest.mark.parametrize(
    ("estimator", "grid", "options"),
    [
        (SVC, {"C": [1]}, {}),
        ("SVC", {"C": [1]}, {}),
        (SVC(), {1: [1]}, {}),
        (SVC(), {DIGITS: [1]}, {}),
        (SVC(), {None: [1]}, {}),
        (SVC(), {b"C": [1]}, {}),
        (SVC(), {"C\0": [1]}, {}),
        (SVC(), {"C\udc80": [1]}, {}),
        (SVC(), {"C": 1}, {}),
        (SVC(), {"C": SVC}, {}),
        (SVC(), {"C": []}, {}),
        (SVC(), [1], {}),
        (SVC(), {"C": [1]}, {"cv": 0}),
        (SVC(), {"C": [1]}, {"cv": float("nan")}),
        (SVC(), {"C": [1]}, {"cv": DIGITS}),
        (SVC(), {"C": [1]}, {"scoring": "a\0b"}),
        (SVC(), {"C": [1]}, {"refit": "accuracy", "scoring": ["f1"]}),
        (SVC(), {"C": [1]}, {"error_score": "a"}),
        (SVC(), {"C": [1]}, {"n_jobs": 1.5}),
        (SVC(), {"C": [1]}, {"verbose": -1}),
    ],
    ids=short,
)
def test_it_is_refused_as_scikit_learn_refuses_it(uri, ours, theirs, estimator, grid, options):
    with pytest.raises(Exception) as expected:  # noqa: PT011  # compared below
        theirs(estimator, grid, **options).fit(X, Y)
    with pytest.raises(expected.type) as caught:
        ours(estimator, grid, db=uri, **options).fit(X, Y)
    assert type(caught.value) is expected.type
    # Texts name the class, and list names of scorers in an order that changes.
    said, to_say = (
        sorted(re.split(r"[, {}]+", str(error.value).replace(ours.__name__, theirs.__name__)))
        for error in (caught, expected)
    )
    assert said == to_say
    assert nothing_is_queued(uri)


@pytest.mark.parametrize("space", ["abc", b"abc", "", SVC])
def test_a_text_or_a_class_is_no_space(uri, space):
    with pytest.raises(ValueError, match="param_grid") as expected:
        GridSearchCV(SVC(), space).fit(X, Y)
    with pytest.raises(expected.type, match="The 'param_grid' parameter of MongoSearchCV must be"):
        MongoSearchCV(SVC(), space, db=uri).fit(X, Y)
    with pytest.raises(ValueError, match="param_distributions") as expected:
        RandomizedSearchCV(SVC(), space).fit(X, Y)
    with pytest.raises(expected.type, match="The 'param_distributions' parameter of MongoSearchCV"):
        MongoSearchCV(SVC(), param_distributions=space, db=uri).fit(X, Y)
    with pytest.raises(expected.type, match="and has to be a dict of lists"):
        MongoSearch(functions.parabola, space, db=uri).run()
    assert nothing_is_queued(uri)


BAD = [
    ({"name": LONG}, ValueError, "name has 17,825,792 characters"),
    ({"definition": "a\0b", "name": "a"}, DefinitionError, "names no file"),
    ({"definition": LONG, "name": "a"}, DefinitionError, "names no file"),
    ({"definition": ".", "name": "a"}, DefinitionError, "is a directory or no regular file"),
    ({"definition": "~nobody-here/a", "name": "a"}, DefinitionError, "home directory is not known"),
    ({"n_jobs": 10**30}, OverflowError, "n_jobs is 10+, and one machine"),
    ({"n_jobs": DIGITS}, OverflowError, "n_jobs is <int>, and one machine"),
    ({"replay": "a\udc80b"}, ValueError, "no search with a generator of the name"),
    ({"replay": LONG}, ValueError, "no search with a generator of the name"),
    ({"warm_start": "a\udc80b"}, ValueError, "no search of the name or id"),
    ({"warm_start": ["a\0b", LONG]}, ValueError, "no search of the name or id"),
    *(
        ({option: value}, ValueError, f"^{option}.* not ")
        for option in ("fit_timeout", "memory_limit", "inner_max_num_threads", "time_budget")
        for value in (0, -1, float("nan"), DIGITS, LONG, b"1", "a\0", SVC, NoRepr(), [], True)
    ),
    ({"memory_limit": "9" * 400}, ValueError, "memory_limit: a size"),
    ({"memory_limit": 10**30}, ValueError, "memory_limit: a size"),
    ({"fit_timeout": float("inf")}, ValueError, "fit_timeout: a number"),
    ({"inner_max_num_threads": 10**30}, ValueError, "inner_max_num_threads: a whole"),
    ({"target_score": DIGITS}, ValueError, "target_score is a number, not <int>"),
    ({"target_score": float("nan")}, ValueError, "target_score is a number, not nan"),
    ({"n_no_improve": DIGITS}, ValueError, "n_no_improve is a number of candidates"),
    ({"n_no_improve": 1.5}, ValueError, "n_no_improve is a number of candidates"),
    ({"requires": NoRepr()}, TypeError, "requires is a set of tags"),
    ({"requires": b"gpu"}, ValueError, "a tag is a word"),
    ({"requires": [LONG + " "]}, ValueError, "a tag is a word"),
    ({"ship_modules": DIGITS}, TypeError, "ship_modules is a list of modules"),
    ({"ship_modules": [NoRepr()]}, TypeError, "ship_modules is a list of modules"),
]


@pytest.mark.parametrize(
    ("options", "kind", "said"), BAD, ids=[f"{n}-{next(iter(row[0]))}" for n, row in enumerate(BAD)]
)
def test_bad_parameters_are_refused_by_fit_and_run(uri, tmp_path, monkeypatch, options, kind, said):
    monkeypatch.chdir(tmp_path)
    searches = [
        MongoSearchCV(SVC(), {"C": [1, 2]}, cv=2, db=uri, **options),
        MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri, **options),
    ]
    for ask in (lambda: searches[0].fit(X, Y), searches[1].run):
        with pytest.raises(kind, match=said) as caught:
            ask()
        assert len(str(caught.value)) < 600
    assert nothing_is_queued(uri)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"data": 3}, TypeError),
        ({"data": np.arange(3)}, TypeError),
        ({"n_iter": 0}, ValueError),
        ({"n_iter": -1}, ValueError),
        ({"n_iter": float("nan")}, TypeError),
        ({"n_iter": "3"}, TypeError),
        ({"direction": {}}, ValueError),
        ({"direction": np.arange(3)}, ValueError),
        ({"metric": ["a"]}, TypeError),
        ({"metric": DIGITS}, TypeError),
        ({"filters": 3}, TypeError),
        ({"filters": len}, TypeError),
        ({"replay": b"a"}, TypeError),
        ({"name": b"a"}, TypeError),
        ({"name": DIGITS}, TypeError),
        ({"definition": 3}, DefinitionError),
        ({"n_jobs": "2"}, TypeError),
        ({"n_jobs": float("nan")}, TypeError),
        ({"verbose": "yes"}, TypeError),
        ({"retry_failed": "no"}, TypeError),
        ({"error_score": np.arange(3)}, ValueError),
        ({"error_score": NoRepr()}, ValueError),
        ({"warm_start": NoRepr()}, TypeError),
    ],
    ids=short,
)
def test_a_function_search_says_which_argument_is_none(uri, options, kind):
    (name,) = options
    with pytest.raises(kind, match=name):
        MongoSearch(functions.parabola, {"x": [1, 2]}, db=uri, **options).run()
    assert nothing_is_queued(uri)


@pytest.mark.parametrize("name", [1, None, b"x", DIGITS, NoRepr(), 1.5, "a\udc80b"], ids=short)
def test_a_param_of_a_function_is_named_by_a_string(uri, name):
    with pytest.raises(TypeError, match="A param is named by a string of UTF-8, not by"):
        MongoSearch(len, [{name: [1]}], db=uri).run()
    assert nothing_is_queued(uri)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_ints_of_many_digits_are_values_like_others(uri, n_jobs):
    values = [
        *(DIGITS, -DIGITS, [DIGITS], (DIGITS,), {DIGITS}, frozenset([DIGITS])),
        *({DIGITS: DIGITS}, range(DIGITS), slice(DIGITS), np.array([DIGITS], dtype=object)),
    ]
    options = {"scoring": one_for_all, "refit": False}
    expected = GridSearchCV(Sleeper(), {"value": values}, cv=2, **options).fit(X, Y)
    for scored in (2 * len(values), 0):
        found = fit(uri, Sleeper(), {"value": values}, n_jobs=n_jobs, **options)
        assert found.summary_.scored == scored
        assert found.cv_results_["params"] == expected.cv_results_["params"]
        assert list(found.cv_results_["mean_test_score"]) == [1.0] * len(values)
    found = MongoSearch(kind_of, {"x": values[:-1]}, db=uri, n_jobs=n_jobs, verbose=1).run()
    assert list(found.results_["score"]) == [1.0] * (len(values) - 1)


def one_for_all(estimator, X, y):
    return 1.0


def kind_of(x):
    return 1.0


@pytest.mark.parametrize("text", ["a\0b", "a\udc80b", "a\nb", ""])
def test_any_text_is_a_value_and_a_name(uri, text):
    found = MongoSearch(kind_of, {"x": [text, "a"]}, db=uri, name=text or None).run()
    assert list(found.results_["param_x"]) == [text, "a"]
    if text:
        assert attach(text, db=uri).search_id == found.search_id_
    assert fit(uri, Sleeper(), {"value": [1, 2]}, name=text).summary_.scored == 4


@pytest.mark.parametrize("name", [3, b"a", DIGITS, NoRepr(), None], ids=short)
def test_attach_takes_a_name(uri, name):
    with pytest.raises(TypeError, match="attach takes the name or id of a search"):
        attach(name, db=uri)


@pytest.mark.parametrize("name", ["", LONG, "a\udc80"], ids=short)
def test_attach_says_that_there_is_none(uri, name):
    with pytest.raises(ValueError, match="There is no search with the name or id") as caught:
        attach(name, db=uri)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"initializer": 3}, TypeError, "initializer is 3, which cannot be called"),
        ({"initializer": len, "initargs": 3}, TypeError, "initargs are arguments in a list"),
        ({"inner_max_num_threads": DIGITS}, ValueError, "inner_max_num_threads: a whole"),
        ({"inner_max_num_threads": "2"}, ValueError, "inner_max_num_threads: a whole"),
    ],
    ids=short,
)
def test_the_backend_of_joblib_refuses_what_cannot_be_meant(uri, options, kind, said):
    with pytest.raises(kind, match=said):
        calls_at(uri, **options)
    assert nothing_is_queued(uri)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("tls=true&tlsCAFile=/no/such/file", "tlscafile file is not readable"),
        ("tls=true&tlsCAFile=/", "tlscafile file is not readable"),
        ("tls=true&tlsCertificateKeyFile=/no/such/file", "tlscertificatekeyfile file"),
        ("uuidRepresentation=none", "UUID representation"),
        ("timeoutMS=" + "9" * 5_000, "timeoutms must be"),
        ("maxPoolSize=many", "maxpoolsize must be an integer"),
        ("appName=" + "x" * 200, "appname must be"),
    ],
    ids=short,
)
def test_options_of_an_address_that_are_none(options, said):
    with pytest.raises(StoreURIError, match=said) as caught:
        fit(f"mongodb://localhost/iris?{options}")
    assert "Traceback" not in chain_of(caught.value)
    assert str(caught.value).count("Nothing was stored") == 1


@pytest.mark.parametrize("name", ["a%00b", "a\udc80b", "x" * 5_000], ids=short)
def test_a_database_whose_name_the_server_refuses(one_node, name):
    with pytest.raises(OptomaticError):
        fit(one_node.uri(name))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPTOMATIC_LEASE", "soon"),
        ("OPTOMATIC_LEASE", "0"),
        ("OPTOMATIC_LEASE", "nan"),
        ("OPTOMATIC_LEASE", "1e300"),
        ("OPTOMATIC_LEASE", "9" * 5_000),
        ("OPTOMATIC_TAG", "a;b"),
    ],
    ids=short,
)
def test_a_variable_that_cannot_be_meant_is_named(uri, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    options = {"requires": ["a"]} if variable == "OPTOMATIC_TAG" else {"n_jobs": 2}
    with pytest.raises(ValueError, match=rf"\${variable}: a ") as caught:
        fit(uri, **options)
    assert len(str(caught.value)) < 600
    assert nothing_is_queued(uri)
