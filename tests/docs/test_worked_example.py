"""The worked example of the contributing page: one file and one line add a fusion to a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import ROOT, blocks_of

PAGE = "docs/contributing.md"

_SCRIPT = """
import torch
from mtl_search.cli import main
from mtl_search.fusion import FUSIONS

assert main(["list", "fusion"]) == 0
assert main(["validate", "study.yaml"]) == 0
states = [{"w": torch.tensor([1.0, 5.0])}, {"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([9.0, 7.0])}]
base = {"w": torch.tensor([0.0, 1.0])}
for count in (3, 2):
    print(FUSIONS["median"](scale=0.5)(states[:count], ["a", "b", "c"][:count], base)["w"].tolist())
"""


def apply_lines(diff: str, file: Path) -> None:
    """Insert each added line of a diff below the line of the file that stands above it in the diff."""
    above = ""
    for line in diff.splitlines():
        if line.startswith("+"):
            text = file.read_text(encoding="utf-8")
            assert text.count(f"\n{above}\n") == 1, f"{file} has not one line {above!r}"
            file.write_text(text.replace(f"\n{above}\n", f"\n{above}\n{line[1:]}\n"), encoding="utf-8")
        above = line[1:]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the example's steps done, and the tests that it names."""
    folder = tmp_path_factory.mktemp("copy")
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mtl_search", folder / "mtl_search", ignore=leave_out)
    shutil.copytree(ROOT / "tests" / "contracts", folder / "tests" / "contracts", ignore=leave_out)
    shutil.copytree(ROOT / "search_spaces", folder / "search_spaces")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for block in blocks_of("python", "diff", page=PAGE):
        if block.title.startswith("mtl_search/"):
            file = folder / block.title
            if block.language == "diff":
                apply_lines(block.text, file)
            else:
                assert not file.exists()
                file.write_text(block.text, encoding="utf-8")
    return folder


def run(copy: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_new_fusion_is_listed_and_searched_and_is_the_median(copy: Path) -> None:
    study = (copy / "search_spaces" / "quickstart.yaml").read_text(encoding="utf-8")
    space = "  fusion:\n    - median: {scale: {float: [0.5, 1.0]}}\n"
    (copy / "study.yaml").write_text(re.sub(r"  fusion:\n(    .*\n)+", space, study), encoding="utf-8")
    said = run(copy, "-c", _SCRIPT).splitlines()
    assert "  median: Median: base + scale * the median of the task vectors, parameter by parameter." in said
    # Task vectors (1, 4), (2, -1), (9, 6): median (2, 4). The first two: median (1.5, 1.5).
    assert said[-2:] == ["[1.0, 3.0]", "[0.75, 1.75]"]


def test_new_fusion_keeps_the_contract_of_its_family(copy: Path) -> None:
    said = run(copy, "-m", "pytest", "tests/contracts/test_fusions.py", "-q", "-k", "median", "-p", "no:cacheprovider")
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) >= 10


@pytest.mark.parametrize("command", [("check",), ("format", "--check", "--diff")], ids=" ".join)
def test_new_file_has_the_style_of_the_project(copy: Path, command: tuple[str, ...]) -> None:
    run(copy, "-m", "ruff", *command, "mtl_search/fusion", "--no-cache")
