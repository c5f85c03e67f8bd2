"""What other libraries say is no part of what a command says, unless it fails in a way that nobody foresaw."""

import logging
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import optuna
import pytest
from made_up_studies import MadeUp

from mtl_search.analysis.overview import Overview
from mtl_search.display.redirect_output import silence_libraries
from mtl_search.errors import StudyError
from mtl_search.report.html_page import html_of


def test_commands_that_read_a_study_write_nothing_but_their_own_words(tmp_path: Path) -> None:
    MadeUp(tmp_path / "running", 2, 40)
    MadeUp(tmp_path / "ended", 2, 40).end()
    verbs = [["report", "made_up", "--html", "page.html"], ["report", "made_up"], ["status", "made_up"]]
    calls = [[*words, "--output", place] for place in ("running", "ended") for words in verbs]
    script = f"from mtl_search.cli import main\nprint([main(words) for words in {calls!r}])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str([0] * 6)
    assert done.stdout.count("wrote page.html\n") == 2


def test_a_page_made_from_python_leaves_optuna_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overview = Overview(MadeUp(tmp_path, 2, 40).end().folder)
    handler = logging.StreamHandler(sys.stderr)  # its own holds the stderr of another test
    before = optuna.logging.get_verbosity()
    logging.getLogger("optuna").addHandler(handler)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        html_of(overview)
        assert capsys.readouterr().err == ""
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
        logging.getLogger("optuna").removeHandler(handler)


def _talk(error: Exception | None = None) -> None:
    sys.stderr.write("a library prints\n")
    library, handler = logging.getLogger("some.library"), logging.StreamHandler()  # bound to stderr, as Optuna's is
    library.addHandler(handler)
    library.warning("a library logs")
    library.removeHandler(handler)
    logging.getLogger("mtl_search.part").warning("this package logs")
    if error is not None:
        raise error


@pytest.mark.parametrize("error", [None, StudyError("the user's to mend")])
def test_other_libraries_are_dropped_and_this_package_is_heard(
    error: Exception | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StudyError) if error else nullcontext(), silence_libraries():
        _talk(error)
    assert capsys.readouterr().err == "this package logs\n"


def test_what_was_dropped_is_told_before_an_error_that_nobody_foresaw(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), silence_libraries():
        _talk(ZeroDivisionError())
    assert capsys.readouterr().err == "this package logs\na library prints\na library logs\n"
