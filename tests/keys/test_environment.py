"""The origin of modules, and the versions that count."""

import base64
import hashlib
import importlib
import json
import os
import subprocess
import sys
import types
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from optomatic.keys import environment
from optomatic.keys.environment import (
    files_digest,
    goes_by_reference,
    is_user_code,
    matched_version,
    python_minor,
    required_versions,
    versions,
)

HERE = Path(__file__).parents[2]
FOLDER = '{"dir_info": {}, "url": "file:///src"}'
EDITABLE = '{"dir_info": {"editable": true}, "url": "file:///src"}'
COMPILED = EXTENSION_SUFFIXES[0]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions."""
    return add_site(tmp_path / "site-packages", monkeypatch)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of a script, which stands before what is installed."""
    return add_site(tmp_path / "own", monkeypatch)


def add_site(folder, monkeypatch):
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def put(folder, *names, content=""):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def install(folder, name, version, *files, requires=(), content="", **more):
    """Write down a distribution as pip does, with its files."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    put(folder, *files, content=content)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    put(
        info, "METADATA", content="Metadata-Version: 2.1\n" + "\n".join(lines) + "\n\nVersion: no\n"
    )
    own = f"{info.name}/METADATA"
    put(info, "RECORD", content="".join(f"{file},,\n" for file in (*files, own)))
    for file, text in more.items():
        put(info, file if file.isupper() else f"{file}.json", content=text)


def run(folder, code):
    """Run a script that stands in `folder`."""
    put(folder, "script.py", content=code)
    env = dict(os.environ, PYTHONPATH=f"{folder / 'site-packages'}{os.pathsep}{HERE}")
    command = [sys.executable, str(folder / "script.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# What is the user's own


@pytest.mark.parametrize("name", ["sys", "json.decoder", "calendar", "xml.dom", "os.path", "math"])
def test_the_standard_library_is_not_user_code(name):
    assert not is_user_code(name)
    assert versions([name]) == {}


@pytest.mark.parametrize("name", ["sklearn.linear_model", "numpy", "polars", "_pytest.fixtures"])
def test_installed_modules_are_not_user_code(name):
    assert not is_user_code(name)


@pytest.mark.parametrize("name", ["optomatic", "optomatic.keys.environment"])
def test_optomatic_is_never_user_code(name):
    assert not is_user_code(name)


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_a_main_module_is_user_code(name):
    assert is_user_code(name)
    assert not goes_by_reference(name)
    assert versions([name]) == {}


def test_a_module_made_at_run_time_is_user_code(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_now", types.ModuleType("made_now"))
    assert is_user_code("made_now")
    assert is_user_code("never_made")
    assert files_digest("made_now") is None


def test_a_module_that_appears_later_is_found(tmp_path, monkeypatch):
    assert is_user_code("latecomer")
    assert versions(["latecomer"]) == {}
    site = add_site(tmp_path / "site-packages", monkeypatch)
    install(site, "latecomer", "1.0", "latecomer.py")
    importlib.invalidate_caches()
    assert not is_user_code("latecomer")
    assert versions(["latecomer"]) == {"latecomer": "1.0"}


def test_an_editable_install_is_user_code(site, own):
    install(site, "mine", "1.0", direct_url=EDITABLE)
    put(own, "mine.py")
    assert is_user_code("mine")
    assert versions(["mine"]) == {}


def test_an_editable_install_linked_into_a_site_is_user_code(site, own):
    install(site, "mine", "1.0", "mine/__init__.py", direct_url=EDITABLE)
    assert is_user_code("mine")


def test_a_source_tree_with_metadata_of_its_build_is_user_code(own, site):
    put(own, "mine.egg-info/PKG-INFO", content="Name: mine\nVersion: 1.0\n")
    put(own, "mine.egg-info/top_level.txt", content="mine\n")
    put(own, "mine.py")
    assert is_user_code("mine")


def test_old_metadata_in_a_site_mean_an_installation(site):
    put(site, "mine.egg-info/PKG-INFO", content="Name: mine\nVersion: 1.0\n")
    put(site, "mine.egg-info/top_level.txt", content="mine\n")
    put(site, "mine.egg-info/requires.txt", content="numpy\n\n[test]\npytest\n")
    put(site, "mine.py")
    assert not is_user_code("mine")
    assert list(versions(["mine"])) == ["mine", "numpy"]


@pytest.mark.parametrize("name", ["iniconfig", "careless", "calendar", "tests"])
def test_a_user_module_named_like_an_installed_one_is_user_code(tmp_path, name):
    files = ("tests/__init__.py", "careless.py")
    install(tmp_path / "site-packages", "careless", "1.0", *files)
    ask = "from optomatic.keys.environment import is_user_code\n"
    ask += f"import {name}; print(is_user_code('{name}'))"
    assert run(tmp_path, ask) == "False" or name == "tests"  # of this project
    put(tmp_path, f"{name}/__init__.py")
    assert run(tmp_path, ask) == "True"


def test_a_distribution_in_another_folder_is_installed(own):
    install(own, "aside", "2.0", "aside/__init__.py", "aside/part.py")
    put(own, "beside.py")
    assert not is_user_code("aside.part")
    assert versions(["aside.part"]) == {"aside": "2.0"}
    assert is_user_code("beside")


def test_a_module_put_into_a_site_by_hand_is_user_code(site):
    put(site, "by_hand.py")
    assert is_user_code("by_hand")


def test_distributions_share_a_namespace_package(site, own):
    for name, version in (("acme-core", "1.0"), ("acme-models", "2.0")):
        part = name.partition("-")[2]
        install(site, name, version, f"acme/{part}/__init__.py", f"acme/{part}/more.py")
    put(site, "acme/by_hand.py")
    put(own, "acme/mine.py")
    assert [is_user_code(f"acme.{one}") for one in ("core", "models.more", "by_hand", "mine")] == [
        *(False, False),
        *(True, True),
    ]
    assert versions(["acme.core"]) == {"acme-core": "1.0"}
    assert versions(["acme.core", "acme.models.more"]) == {"acme-core": "1.0", "acme-models": "2.0"}
    assert "acme" not in sys.modules  # nothing was imported


def test_distributions_share_the_top_of_a_package(site):
    for name in ("pkg-one", "pkg-two"):
        install(site, name, "1.0", "pkg/__init__.py", f"pkg/{name[4:]}.py")
    assert versions(["pkg.two"]) == {"pkg-two": "1.0"}
    assert not is_user_code("pkg.one")


def test_a_script_is_user_code_without_reading_all_distributions(tmp_path):
    """To read the files of all that is installed takes longer than to key a search."""
    put(tmp_path, "helper.py")
    code = """
import importlib.metadata
def never(): raise AssertionError
importlib.metadata.packages_distributions = never
import helper, sklearn.linear_model, pandas, polars, joblib, scipy
from optomatic.keys.environment import is_user_code, versions
modules = "helper __main__ sklearn.linear_model numpy scipy.stats pandas polars joblib json".split()
print([one for one in modules if is_user_code(one)], len(versions(modules)) > 4)
"""
    assert run(tmp_path, code) == "['helper', '__main__'] True"


# What counts of a version


def test_the_precision_of_versions(site):
    install(site, "numpy", "1.2.3", "numpy/__init__.py")
    install(site, "polars-runtime-64", "4.5.6")
    install(site, "Other_Name", "7.8.9+cu1", "other.py")
    assert versions(["other"]) == {"other-name": "7.8.9+cu1"}
    assert matched_version("numpy") == "1.2"
    assert matched_version("polars_runtime_64") == "4.5"
    assert matched_version("other.NAME") == "7.8.9+cu1"
    assert matched_version("is-not-there") == ""


def test_requirements_of_requirements_count(site):
    requires = ("Dep_X>=1", "gone", 'tool; extra == "docs"', 'old; python_version < "3"', "six")
    install(site, "lib", "1", "lib.py", requires=requires)
    install(site, "dep.x", "2", requires=("lib", 'tool; extra=="a" and python_version>"3"'))
    for name in ("tool", "old"):
        install(site, name, "3")
    assert versions(["lib"]) == {"dep-x": "2", "lib": "1"}


def test_a_new_version_of_a_requirement_of_a_requirement_counts(tmp_path, monkeypatch):
    seen = []
    for version in ("1.0", "2.0"):
        site = add_site(tmp_path / version / "site-packages", monkeypatch)
        install(site, "lib", "1", "lib.py", requires=("between (>=0.1)",))
        install(site, "between", "1", requires=("below ~= 1.0",))
        install(site, "below", version)
        importlib.invalidate_caches()
        seen.append(versions(["lib"]))
    assert [one["below"] for one in seen] == ["1.0", "2.0"]


def test_extras_of_requirements_count(site):
    install(site, "lib", "1", "lib.py", requires=("foo[Bar_1,not-there]>=1; python_version>'3'",))
    markers = ('by-bar; extra == "bar-1"', 'by-baz; extra == "baz"', 'foo[all]; "bar-1" == extra')
    install(site, "foo", "1", requires=(*markers, 'by-all; extra == "all"'))
    for name in ("by-bar", "by-baz", "by-all"):
        install(site, name, "1")
    assert list(versions(["lib"])) == ["by-all", "by-bar", "foo", "lib"]


def test_unreadable_metadata_are_passed_over(site):
    install(site, "lib", "1", "lib.py", requires=("a[b", "dep ; nonsense", "dep"))
    install(site, "dep", "1")
    assert versions(["lib"]) == {"dep": "1", "lib": "1"}


def test_optional_packages_of_pandas_count(site):
    install(site, "numexpr", "1.2.3")
    found = versions(["pandas"])
    assert found["numexpr"] == "1.2.3"
    assert found["pyarrow"] == matched_version("pyarrow")
    assert "numexpr" not in versions(["numpy"])


def test_distributions_that_cannot_change_a_score_do_not_count(site, monkeypatch):
    install(site, "lib", "1", "lib.py", requires=("joblib", "dep"))
    install(site, "joblib", "99", requires=("below",))
    install(site, "dep", "1", "dep.py")
    install(site, "below", "1")
    assert versions(["lib", "joblib"]) == {"dep": "1", "lib": "1"}
    reason = environment.Precision(not_in_keys="It only asks what is there.")
    monkeypatch.setattr(environment, "VERSIONS", {**environment.VERSIONS, "lib -> dep": reason})
    environment._closure.cache_clear()
    assert versions(["lib"]) == {"lib": "1"}
    assert versions(["lib", "dep"]) == {"dep": "1", "lib": "1"}
    environment._closure.cache_clear()


def test_changing_a_result_does_not_change_the_next(site):
    install(site, "lib", "1", "lib.py")
    versions(["lib"]).clear()
    assert versions(["lib"]) == {"lib": "1"}


# Builds that bear the version of others


def builds(tmp_path, monkeypatch, contents, **more):
    """Return what counts of installations that differ in the content of a file."""
    found = []
    for place, content in enumerate(contents):
        site = add_site(tmp_path / str(place) / "site-packages", monkeypatch)
        install(site, "lib", "0.1", "lib/__init__.py", content=content, **more)
        importlib.invalidate_caches()
        found.append(versions(["lib"])["lib"])
        assert matched_version("lib") == found[-1]
    return found


def test_an_installation_from_a_folder_counts_by_its_files(tmp_path, monkeypatch):
    one, other, again = builds(
        tmp_path, monkeypatch, ["a = 1", "a = 2", "a = 1"], direct_url=FOLDER
    )
    assert one == again != other
    assert one.startswith("0.1+")
    assert len(one) == len("0.1+") + 16


def test_an_installation_from_an_index_counts_by_its_version(tmp_path, monkeypatch):
    assert builds(tmp_path, monkeypatch, ["a = 1", "a = 2"]) == ["0.1", "0.1"]


def test_an_installation_by_conda_counts_by_its_version(tmp_path, monkeypatch):
    more = {"direct_url": FOLDER, "INSTALLER": "conda\n"}
    assert builds(tmp_path, monkeypatch, ["a = 1", "a = 2"], **more) == ["0.1", "0.1"]


def test_an_installation_from_a_repository_counts_by_its_commit(tmp_path, monkeypatch):
    url = json.dumps({"url": "https://host", "vcs_info": {"vcs": "git", "commit_id": "ab" * 20}})
    found = builds(tmp_path, monkeypatch, ["a = 1", "a = 2"], direct_url=url)
    assert found == ["0.1+" + "ab" * 8] * 2


def test_recorded_hashes_save_reading_files(tmp_path, monkeypatch):
    (read,) = builds(tmp_path, monkeypatch, ["a = 1"], direct_url=FOLDER)
    path = "lib/__init__.py"
    site = add_site(tmp_path / "other/site-packages", monkeypatch)
    install(site, "lib", "0.1", path, content="a = 1", direct_url=FOLDER)
    hashed = base64.urlsafe_b64encode(hashlib.sha256(b"a = 1").digest()).decode().rstrip("=")
    lines = f"{path},sha256={hashed},5\n../../bin/lib,sha256=x,1\nlib/__pycache__/__init__.pyc,,\n"
    put(site, "lib-0.1.dist-info/RECORD", content=lines)
    importlib.invalidate_caches()
    (site / path).unlink()
    assert versions(["sys"]) == {}
    assert matched_version("lib") == read


def test_an_editable_requirement_counts_by_its_files(tmp_path, monkeypatch):
    found = []
    for content in ("a = 1", "a = 2"):
        place = tmp_path / content[-1]
        site = add_site(place / "site-packages", monkeypatch)
        own = add_site(place / "own", monkeypatch)
        install(site, "lib", "1", "lib.py", requires=("dep",))
        install(site, "dep", "1", direct_url=EDITABLE)
        put(own, "dep.py", content=content)
        importlib.invalidate_caches()
        found.append(versions(["lib"])["dep"])
    assert len(set(found)) == 2


def test_a_new_process_sees_a_new_installation(tmp_path):
    ask = "from optomatic.keys.environment import versions; import lib; print(versions(['lib']))"
    seen = []
    for content in ("a = 1", "a = 2"):
        site = tmp_path / "site-packages"
        install(site, "lib", "1", "lib.py", content=content, direct_url=FOLDER)
        os.utime(site / "lib.py", (1e9, 1e9))
        seen.append(run(tmp_path, ask))
    assert seen[0] != seen[1]


# Packages that hold compiled code


def test_a_package_with_compiled_modules_goes_by_reference(own):
    put(own, "fast/__init__.py", "fast/plain.py", f"fast/deep/core{COMPILED}", "slow/__init__.py")
    put(own, f"single{COMPILED}", "plain.py", "space/plain.py", f"space/core{COMPILED}")
    for name in ("fast", "fast.plain", "single", "space.core"):
        assert goes_by_reference(name), name
    for name in ("slow", "plain", "space", "space.plain", "numpy", "json"):
        assert not goes_by_reference(name), name


def test_compiled_modules_in_another_folder_are_found(own, tmp_path, monkeypatch):
    """Editable installs may keep them in the folder of a build."""
    put(own, "fast/__init__.py")
    core = types.ModuleType("fast.core")
    core.__spec__ = types.SimpleNamespace(origin=str(tmp_path / f"build/core{COMPILED}"))
    monkeypatch.setitem(sys.modules, "fast.core", core)
    assert goes_by_reference("fast.core")
    assert goes_by_reference("fast")


def test_files_of_a_package_by_reference_count(own, site):
    put(own, "fast/__init__.py", f"fast/core{COMPILED}", content="1")
    install(site, "fast", "1", requires=("dep",), direct_url=EDITABLE)
    install(site, "dep", "2")
    found = versions(["fast.plain"])
    assert found == {"dep": "2", "fast (files)": files_digest("fast")}
    assert "fast (files)" not in required_versions(found)  # a worker says itself that it lacks them
    put(own, "fast/data.txt", "fast/__pycache__/a.py", "fast/.hidden/b.py")
    assert versions(["fast"]) == found
    put(own, f"fast/core{COMPILED}", content="22")
    assert versions(["fast"])["fast (files)"] != found["fast (files)"]


def test_the_hash_of_files_covers_names_and_contents(own):
    put(
        own,
        "a/__init__.py",
        "a/part.py",
        "b/__init__.py",
        "b/other.py",
        "c/__init__.py",
        "c/part.py",
    )
    assert files_digest("a") == files_digest("a.part") == files_digest("c")
    assert files_digest("a") != files_digest("b")
    assert files_digest("gone") is None
    assert "a" not in sys.modules  # nothing was imported


def test_the_hash_of_a_single_file(own):
    put(own, "one.py", content="a = 1")
    first = files_digest("one")
    put(own, "one.py", content="a = 22")
    assert files_digest("one") != first


# What a worker must match


def test_required_versions():
    found = required_versions({"scipy": "1.17"})
    assert found["python"] == python_minor() == ".".join(sys.version.split(".")[:2])
    assert list(found) == ["python", "cloudpickle", "scikit-learn", "numpy", "scipy"]
    assert found["cloudpickle"].isdigit()
    assert found["numpy"].count(".") == 1
    assert all(
        matched_version(name) == found[name] for name in found if name not in ("python", "scipy")
    )
