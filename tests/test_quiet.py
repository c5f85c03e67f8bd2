"""What other libraries print goes to the log, which opens with what the user was told."""

import os
from pathlib import Path

import pytest

from mtl_search.quiet import chatter_to


def test_the_log_opens_with_the_lines_given_and_takes_what_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        with chatter_to(tmp_path / "of" / "search.log", opening=[f"note: {number}"]) as user:
            os.write(1, b"chatter\n")
            user.write("shown\n")
    assert (tmp_path / "of" / "search.log").read_text() == "note: 1\nchatter\nnote: 2\nchatter\n"
    assert capfd.readouterr().out == "shown\nshown\n"
