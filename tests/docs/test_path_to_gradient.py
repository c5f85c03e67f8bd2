"""The path from the command to the backward pass, as it is called: short, and told in docs/architecture.md."""

import re
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from small_studies import study_of, write_study

import mtl_search
from mtl_search.cli import main

ROOT = Path(__file__).parents[2]
PACKAGE = Path(mtl_search.__file__).parent
JOINT = {"epochs": 1, "batch_size": 32}
Call = tuple[str, str]
"""File below the package, and function."""


def told() -> list[Call]:
    """The table of the page."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, _, below = text.partition("## From shell to gradient")
    rows = re.findall(r"^\| `mtl_search/([\w/]+\.py)` \| `(\w+)` \|", below.partition("\n## ")[0], re.MULTILINE)
    return [(path, name) for path, name in rows]


@pytest.mark.timeout(300)
def test_a_trial_s_gradient_is_reached_by_the_calls_that_the_page_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    stacks: list[list[Call]] = []
    backward = torch.autograd.backward

    def seen(*args: Any, **options: Any) -> None:
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(str(PACKAGE))]
        stacks.append([(Path(frame.filename).relative_to(PACKAGE).as_posix(), frame.name) for frame in frames])
        backward(*args, **options)

    monkeypatch.setattr(torch.autograd, "backward", seen)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, study_of(tmp_path, 1, JOINT, baseline_seeds=1, repeats={"runs": 0}))
    assert main(["search", "tiny.yaml", "--local"]) == 0
    of_trials = {tuple(stack) for stack in stacks if ("search/local_runtime.py", "run_trials") in stack}
    paths = [stack[stack.index(("commands/search.py", "run")) :] for stack in of_trials]
    paths = [path for path in paths if ("training/step.py", "_update") in path]
    assert all(len({file for file, _ in path}) <= 15 and len(path) <= 30 for path in paths)
    path = min(paths, key=len)  # now and then a step measures the gradients beside, and goes two calls deeper
    assert told() == list(path), "\n".join(f"| `mtl_search/{file}` | `{name}` |" for file, name in path)
