"""README.md, which newcomers read first, as the pages of docs/."""

from test_pages import ROOT, forgotten_commands, run_page

README = ROOT / "README.md"


def test_blocks_run_in_turn_and_print_what_is_said(uri, tmp_path, monkeypatch):
    run_page(README, uri, tmp_path, monkeypatch)


def test_commands_of_a_shell_run_or_are_marked():
    assert forgotten_commands(README) == []
