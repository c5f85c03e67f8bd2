"""Options of the command itself: its version, and completion in a shell."""

import shutil
import subprocess
from importlib.metadata import version

import pytest

from mtl_search.cli import main
from mtl_search.commands import COMMANDS


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"mtl-search {version('mtl_search')}\n"


def test_bash_completes_verbs_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out

    def completed(*words: str) -> set[str]:
        line = (
            f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _shtab_mtl_search; echo "${{COMPREPLY[@]}}"'
        )
        bash = shutil.which("bash")
        assert bash is not None
        done = subprocess.run([bash, "-c", f"{script}\n{line}"], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert completed("mtl-search", "''") >= set(COMMANDS)
    assert completed("mtl-search", "ex") == {"export", "extend"}
    assert {"--resume", "--local", "--trials"} <= completed("mtl-search", "search", "--")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", shell])
    assert "extend" in capsys.readouterr().out


def test_an_unknown_shell_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--print-completion", "fish"])
    assert "choose from" in capsys.readouterr().err
