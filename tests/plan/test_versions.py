"""What is installed, and what only bears the name of something that is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
SCRIPT = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from optomatic.plan.keys.versions import installed_versions
print(json.dumps([installed_versions(name) for name in sys.argv[1:]]))
"""


@pytest.fixture
def found(tmp_path):
    """Run a script that asks for modules; it finds what stands in its own folder, and in a site."""

    def found(*modules):
        script = tmp_path / "script.py"
        paths = f"import sys; sys.path += [{str(tmp_path / 'site-packages')!r}, {str(HERE)!r}]\n"
        script.write_text(paths + SCRIPT)
        command = [sys.executable, str(script), *modules]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [one and tuple(one) for one in json.loads(said)]

    return found


def install(folder, name, version, *files, **more):
    """Write down a distribution as pip does, with its files."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file_name, content in more.items():
        (info / f"{file_name}.json").write_text(content)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")


def test_the_source_tree_of_a_distribution_is_not_what_was_installed(found, tmp_path):
    """A build leaves metadata beside the code, which are found first by a script in there."""
    install(
        tmp_path / "site-packages", "mine", "1.0", direct_url='{"dir_info": {"editable": true}}'
    )
    left = tmp_path / "mine.egg-info"
    left.mkdir()
    (left / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (left / "top_level.txt").write_text("mine\n")
    (tmp_path / "mine.py").write_text("")
    assert found("mine") == [None]


def test_old_metadata_in_a_site_are_those_of_an_installation(found, tmp_path):
    left = tmp_path / "site-packages" / "mine-1.0.egg-info"
    left.mkdir(parents=True)
    (left / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (left / "top_level.txt").write_text("mine\n")
    (tmp_path / "site-packages" / "mine.py").write_text("")
    assert found("mine") == [("mine", "1.0")]


def test_a_module_of_ones_own_with_the_name_of_an_installed_one(found, tmp_path):
    install(tmp_path / "site-packages", "careless", "1.0", "tests/__init__.py", "careless.py")
    (tmp_path / "tests").mkdir()
    for name in ("tests/__init__.py", "code.py"):
        (tmp_path / name).write_text("")
    # What stands in the folder of the script is imported, whatever else bears its name.
    assert found("tests", "code", "careless", "calendar", "xml.dom") == [
        *(None, None),
        *(("careless", "1.0"), ("", ""), ("", "")),
    ]


def test_what_is_installed_into_a_folder_of_its_own(found, tmp_path):
    install(tmp_path, "aside", "2.0", "aside/__init__.py", "aside/part.py")
    assert found("aside.part") == [("aside", "2.0")]


def test_a_package_that_several_distributions_share(found, tmp_path):
    site = tmp_path / "site-packages"
    for name, version in (("acme-core", "1.0"), ("acme-models", "2.0")):
        part = name.partition("-")[2]
        install(site, name, version, f"acme/{part}/__init__.py", f"acme/{part}/more.py")
    (site / "acme/mine.py").write_text("")
    assert found("acme.core", "acme.models", "acme.models.more", "acme.mine") == [
        ("acme-core", "1.0"),
        *(("acme-models", "2.0"), ("acme-models", "2.0")),
        None,
    ]
