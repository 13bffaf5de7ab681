"""Search definition files: what is written, what is refused."""

import multiprocessing
import os
import resource
import stat
import tomllib
from pathlib import Path

import pytest

from optomatic._uri import same_place
from optomatic.definition import Definition, add, path_of, read
from optomatic.errors import DefinitionError

DB = "mongodb://ann:secret@host:27018/iris?tls=true&tlsCertificateKeyFilePassword=hidden"
SHOWN = "mongodb://***@host:27018/iris?tls=true&tlsCertificateKeyFilePassword=***"
#: As the first version wrote it.  Whoever raises the schema keeps it.
OLD = """\
schema = 1
db = "mongodb://host/iris"
searches = [
    "trees",
]
"""


@pytest.fixture
def path(tmp_path):
    return path_of(tmp_path / "sweep")


@pytest.mark.parametrize("name", ["sweep", "sweep.optomatic.toml"])
def test_a_name_is_a_file_here_and_a_path_is_a_path(name, tmp_path):
    assert str(path_of(name)) == "sweep.optomatic.toml"
    assert path_of(tmp_path / name) == tmp_path / "sweep.optomatic.toml"


@pytest.mark.parametrize("name", ["", "  ", b"sweep", 5, "a\0b"])
def test_a_definition_without_a_file_name_is_refused(name):
    with pytest.raises(DefinitionError, match="names no file"):
        path_of(name)


@pytest.mark.parametrize(
    "name", ["/", ".", "..", "there", "there/", "not there/", "fifo", "/dev/zero"]
)
def test_directories_pipes_and_devices_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DefinitionError, match="is a directory or no regular file"):
        path_of(name)
    assert path_of("there.optomatic.toml").name == "there.optomatic.toml"


def test_an_unknown_home_directory_is_refused():
    with pytest.raises(DefinitionError, match="home directory is not known"):
        path_of("~nobody-here/sweep")


def make_fifo(path):
    os.mkfifo(path)


def make_device(path):
    path.symlink_to("/dev/zero")


def make_circle(path):
    path.symlink_to(path.name)


def make_directory(path):
    path.mkdir()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("make", [make_fifo, make_device, make_circle, make_directory])
def test_irregular_files_are_refused_without_waiting(path, make, beside):
    """Neither as the file itself, nor in place of the one that is locked beside it."""
    odd = path.with_name(f".{path.name}.lock") if beside else path
    make(odd)
    with pytest.raises(DefinitionError, match=r"cannot be (written|read)"):
        add(path, "trees", DB)
    if not beside:
        with pytest.raises(DefinitionError, match="cannot be read"):
            read(path)
    assert list(path.parent.iterdir()) == [odd]
    assert not Path("/dev/.zero.lock").exists()


def test_other_files_and_the_mode_stay(path):
    theirs = [path.with_name(f".{path.name}.new"), path.with_name(f"{path.name}.new")]
    for one in theirs:
        one.write_text("precious")
    add(path, "trees", DB)
    path.chmod(0o640)
    add(path, "boosting", DB)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert {one.read_text() for one in theirs} == {"precious"}
    assert len(list(path.parent.iterdir())) == 4


def test_on_a_full_disk_the_file_is_as_it_was(path):
    add(path, "trees", DB)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(DefinitionError, match=r"cannot be written \(File too large"):
            add(path, "boosting", DB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 2


def test_names_are_unique_in_the_order_of_submission(path):
    names = ["trees", 'quote " and \\', "é 猫 \x7f \t", "trees", "boosting"]
    for name in names:
        add(path, name, DB)
    assert read(path) == Definition(SHOWN, tuple(dict.fromkeys(names)))
    assert tomllib.loads(path.read_text())["schema"] == 1


def test_no_secret_is_written_down(path):
    add(path, "trees", DB)
    written = "".join(file.read_text() for file in path.parent.iterdir())
    assert "trees" in written
    assert not [word for word in ("ann", "secret", "hidden") if word in written]


def test_without_an_address_it_is_the_private_server(path):
    add(path, "trees", None)
    assert read(path) == Definition(None, ("trees",))
    assert "db" not in tomllib.loads(path.read_text())


def test_schema_1_is_read(path):
    path.write_text(OLD)
    assert read(path) == Definition("mongodb://host/iris", ("trees",))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "schema is None"),
        (b"schema = 2\nsearches = []", "schema is 2, and this version knows 1"),
        (b"schema = true", "schema is True"),
        (b"schema = 1\nsearches = 'trees'", "not a list of names"),
        (b"schema = 1\nsearches = ['']", "not a list of names"),
        (b"schema = 1\ndb = 3", "db is 3"),
        (b"schema = 1\nsearch = ['trees']", r"it has \['search'\], which mean nothing"),
        (b"[tool]\n", "schema is None"),
        (b"trees, boosting", "it is no TOML"),
        (b"\xff\xfe\x00", "it is no TOML"),
    ],
)
def test_wrong_content_is_refused_and_kept(path, content, why):
    path.write_bytes(content)
    with pytest.raises(DefinitionError, match=why):
        add(path, "trees", DB)
    with pytest.raises(DefinitionError, match=why):
        read(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("db", ["mongodb://host:27018/other", "mongodb://host/iris", None])
def test_another_database_is_refused_and_named_without_a_password(path, db):
    add(path, "trees", DB)
    before = path.read_text()
    with pytest.raises(DefinitionError, match="is of another database") as raised:
        add(path, "boosting", db)
    assert "secret" not in str(raised.value)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mongodb://a/iris", "mongodb://ann:pass@A:27017/iris?w=1", True),
        ("mongodb://a,b:1/iris", "mongodb://b:1,a/iris", True),
        ("mongodb://a", "mongodb://a/optomatic", True),
        ("mongodb://[::1]/x", "mongodb://[::1]:27017/x", True),
        ("mongodb://%2Ftmp%2Fx.sock/x", "mongodb://%2Ftmp%2Fx.sock/x?a=1", True),
        ("mongodb+srv://a/x", "mongodb+srv://b:c@a/x", True),
        ("mongodb://a/iris", "mongodb://a/other", False),
        ("mongodb://a/iris", "mongodb://a:1/iris", False),
        ("mongodb+srv://a/x", "mongodb://a/x", False),
        (None, "mongodb://a/x", False),
        (None, None, True),
    ],
)
def test_the_same_hosts_and_database(one, other, same):
    assert same_place(one, other) is same
    assert same_place(other, one) is same


def test_missing_and_unwritable_files_are_reported(path, tmp_path):
    with pytest.raises(DefinitionError, match=r"cannot be read \(No such file"):
        read(path)
    with pytest.raises(DefinitionError, match=r"cannot be written \(No such file"):
        add(path_of(tmp_path / "nowhere" / "sweep"), "trees", DB)
    with pytest.raises(DefinitionError, match="cannot be written as UTF-8"):
        add(path, "\ud800", DB)
    assert not path.exists()


def test_a_link_stays_a_link(path, tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    add(target / path.name, "trees", DB)
    path.symlink_to(target / path.name)
    add(path, "boosting", DB)
    assert path.is_symlink()
    assert read(target / path.name).searches == ("trees", "boosting")


def _add_many(path, writer):
    for number in range(25):
        add(path, f"{writer}-{number}", DB)


def test_drivers_at_the_same_time_lose_no_name_and_readers_see_whole_files(path):
    add(path, "first", DB)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add_many, args=(path, n)) for n in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert read(path).searches[0] == "first"
    assert [writer.exitcode for writer in writers] == [0] * 4
    found = read(path).searches
    assert len(found) == len(set(found)) == 101
    for n in range(4):  # each in its own order
        own = [name for name in found if name.startswith(f"{n}-")]
        assert own == [f"{n}-{number}" for number in range(25)]


def test_unchanged_content_is_not_written_again(path):
    add(path, "trees", DB)
    before = path.stat()
    add(path, "trees", DB)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
