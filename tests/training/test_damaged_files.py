"""What becomes of a study's own files when a disk spoils them: they are made anew, to the same bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_workloads import joint_stage, recipe_of, same, single_stages, workspace_of
from stage_outcomes import files_of, timeless

from mtl_search.data.study_data import StudyData
from mtl_search.errors import DamagedError
from mtl_search.recipe import Component, Schedule
from mtl_search.training.stages import is_finished, run_stage, trained_model


def spoil(path: Path) -> None:
    """Flip a bit late in a file."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    _put(path, content)


def cut(path: Path) -> None:
    _put(path, path.read_bytes()[:-30])


def _put(path: Path, content: bytes) -> None:
    path.unlink()  # tensors that were read from the old file look into it still
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [spoil, cut])
@pytest.mark.parametrize("name", ["model.safetensors", "result.json"])
def test_a_stage_whose_model_or_result_is_damaged_has_not_ended_and_is_run_again_to_the_same_bits(
    every_kind: StudyData, tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    workspace = workspace_of(every_kind)
    stage = single_stages(workspace, recipe_of(Schedule(1, 32)), tmp_path)["ink"]
    expected, files = run_stage(stage, workspace), files_of(stage)
    assert is_finished(stage) is not None
    harm(Path(stage.folder) / name)
    assert is_finished(stage) is None
    assert timeless(run_stage(stage, workspace)) == timeless(expected)
    assert same(files_of(stage)[1], files[1])
    assert is_finished(stage) is not None


@pytest.mark.parametrize("name", ["model.safetensors", "result.json"])
def test_a_joint_stage_makes_damaged_single_task_models_anew(every_kind: StudyData, tmp_path: Path, name: str) -> None:
    workspace = workspace_of(every_kind)
    recipe = recipe_of(Schedule(2, 32), fusion=Component("fisher"))
    for task, stage in single_stages(workspace, recipe, tmp_path).items():
        run_stage(replace(stage, key=task), workspace)  # as a study has it: the folder's name is the key
    whole = joint_stage(workspace, recipe, tmp_path)
    expected = run_stage(whole, workspace)
    single = tmp_path / "ink"
    content = (single / "model.safetensors").read_bytes()
    spoil(single / name)
    for facts in single.glob("facts-*"):
        spoil(facts)
    again = replace(whole, folder=str(tmp_path / "again"))
    assert timeless(run_stage(again, workspace)) == timeless(expected)
    assert same(files_of(again)[1], files_of(whole)[1])
    assert (single / "model.safetensors").read_bytes() == content


def test_a_damaged_model_is_not_judged_on_test(every_kind: StudyData, tmp_path: Path) -> None:
    workspace = workspace_of(every_kind)
    stage = single_stages(workspace, recipe_of(Schedule(1, 32)), tmp_path)["ink"]
    run_stage(stage, workspace)
    spoil(Path(stage.folder) / "model.safetensors")
    with pytest.raises(DamagedError, match=r"model.safetensors is damaged"):
        trained_model(stage, workspace)
