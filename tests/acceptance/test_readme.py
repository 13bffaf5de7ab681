"""The Python of README.md runs, and prints what stands below it."""

import doctest
import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def without_times(text):
    return re.sub(r"in [\d.]+ s\b", "in TIME", text).strip()


def test_blocks_run_in_turn_and_print_what_is_said(uri, monkeypatch, capsys):
    monkeypatch.setenv("OPTOMATIC_DB", uri)
    names, compared = {}, 0
    for (language, text), (_, below) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if language != "python":
            continue
        if ">>>" in text:
            test = doctest.DocTestParser().get_doctest(text, names, "README", "README.md", 0)
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            failed, tried = runner.run(test, clear_globs=False)
            assert (failed, tried) == (0, len(test.examples)), capsys.readouterr().out
        else:
            exec(compile(text, "README.md", "exec"), names)
            assert without_times(capsys.readouterr().out) == without_times(below)
        compared += 1
    assert compared >= 3
