"""From single-task models on disk to the start of joint training, for every fusion."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from groups_of_two import in_a_group_of_two
from safetensors.torch import load_file
from small_workloads import BATCH_NORM, EVERY_KIND, MLP, data_of, joint_stage, recipe_of, same, workspace_of
from stage_outcomes import files_of, judged, timeless

from mtl_search.data.study_data import StudyData
from mtl_search.errors import ConfigError, TrialError
from mtl_search.fusion import FUSIONS
from mtl_search.fusion.fisher import Fisher
from mtl_search.fusion.measuring import MeasuringFusion
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.storage.checkpoint import load_model
from mtl_search.storage.stage_results import read_result
from mtl_search.training.evaluation import evaluate
from mtl_search.training.fusing import fused_model
from mtl_search.training.stages import run_stage
from mtl_search.training.workspace import Workspace

ADAMW = Component("adamw", {"lr": 0.01})
PAIR = {task: EVERY_KIND[task] for task in ("odd", "ink")}
MEASURING = [name for name, kind in FUSIONS.items() if issubclass(kind, MeasuringFusion)]


def merge(fusion: str | Component, **sharing: Any) -> Recipe:
    chosen = Component(fusion) if isinstance(fusion, str) else fusion
    recipe = recipe_of(Schedule(0, 32), Schedule(2, 32, ADAMW), fusion=chosen)
    return replace(recipe, sharing=Component(*sharing.popitem())) if sharing else recipe


@pytest.fixture(scope="module")
def pair() -> StudyData:
    return data_of(PAIR)


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_is_a_pure_merge_without_joint_epochs(name: str, pair: StudyData, tmp_path: Path) -> None:
    workspace = workspace_of(pair)
    stage = joint_stage(workspace, merge(name), tmp_path)
    result = run_stage(stage, workspace)
    assert [report.epoch for report in result.history] == [0]
    assert result.best_epoch == 0
    assert judged(stage, workspace) == result.metrics
    again = replace(stage, folder=str(tmp_path / "again"))
    assert timeless(run_stage(again, workspace_of(pair))) == timeless(result)
    assert same(files_of(again)[1], files_of(stage)[1])


@pytest.mark.parametrize("name", ["regmean", "learned", "none"])
@pytest.mark.parametrize("sharing", ["adapters", "experts", "soft", "cross_stitch", "tree"])
def test_fusions_go_with_every_form_of_sharing(name: str, sharing: str, workspace: Workspace, tmp_path: Path) -> None:
    params = {"groups": [["digit", "odd", "ink"], ["halves"]], "depth": 1} if sharing == "tree" else {}
    fusion = Component(name, {"steps": 10} if name == "learned" else {})
    stage = joint_stage(workspace, replace(merge(fusion, **{sharing: params}), joint=Schedule(1, 32, ADAMW)), tmp_path)
    result = run_stage(stage, workspace)
    assert [report.epoch for report in result.history] == [0, 1]


def test_without_fusion_joint_training_starts_as_a_model_that_was_never_fine_tuned(
    workspace: Workspace, tmp_path: Path
) -> None:
    stage = joint_stage(workspace, merge("none"), tmp_path)
    run_stage(stage, workspace)
    fresh = workspace.model(stage.tasks, stage.recipe.sharing)
    assert same(files_of(stage)[1], fresh.state_dict())


@pytest.mark.parametrize("name", MEASURING)
def test_a_single_task_model_is_measured_once_whatever_the_trial(
    name: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    kind = FUSIONS[name]
    original = kind.measure

    def counted(self: Any, model: Any, x: torch.Tensor, seed: int) -> Any:
        measured.append(model.tasks[0].name)
        assert len(x) == 50
        return original(self, model, x, seed)

    monkeypatch.setattr(kind, "measure", counted)
    other = {"coefficients": {"ink": 0.5}} if kind is Fisher else {"shrink": 0.5}
    recipes = [merge(Component(name, {"rows": 50})), merge(Component(name, {"rows": 50, **other}))]
    first, second = (joint_stage(workspace, recipe, tmp_path, str(i)) for i, recipe in enumerate(recipes))
    run_stage(first, workspace)
    run_stage(second, workspace)
    assert sorted(measured) == sorted(EVERY_KIND)
    assert not same(files_of(first)[1], files_of(second)[1])
    assert all(len(list(Path(folder).glob("facts-*.safetensors"))) == 1 for folder in first.singles.values())


def test_rows_beyond_those_of_a_data_set_are_all_of_them(workspace: Workspace, tmp_path: Path) -> None:
    recipes = [merge(Component("regmean", {"rows": rows})) for rows in (9999, 99999)]
    stages = [joint_stage(workspace, recipe, tmp_path, str(i)) for i, recipe in enumerate(recipes)]
    for stage in stages:
        run_stage(stage, workspace)
    assert same(files_of(stages[0])[1], files_of(stages[1])[1])


@pytest.mark.parametrize("signal", ["labels", "entropy"])
@pytest.mark.parametrize("name", ["learned", "learned_gate"])
def test_learned_fusions_do_better_on_what_they_learn_from(name: str, signal: str, tmp_path: Path) -> None:
    workspace = workspace_of(data_of({task: EVERY_KIND[task] for task in ("digit", "odd", "halves")}))
    signals = {}
    for fusion in (Component("mean"), Component(name, {"signal": signal, "steps": 60})):
        stage = joint_stage(workspace, merge(fusion), tmp_path, fusion.name)
        model = fused_model(stage.tasks, stage.recipe, stage.singles, workspace)
        split = workspace.splits["train"]
        if signal == "labels":
            found = evaluate(model, split, workspace.metrics, DistributedContext())
            signals[fusion.name] = sum(each["loss"] for each in found.values())
        else:
            outputs = model.eval()(split.inputs["main"][:].single)
            signals[fusion.name] = sum(float(t.behaviour.mean_entropy(outputs[t.name].detach())) for t in model.tasks)
    assert signals[name] < signals["mean"]


def test_learning_that_diverges_fails_the_trial(workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, merge(Component("learned", {"lr": 1e36})), tmp_path)
    with pytest.raises(TrialError, match="diverged: coefficients of fusion learned"):
        run_stage(stage, workspace)


def test_entropy_of_a_regression_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, merge(Component("learned", {"signal": "entropy"})), tmp_path)
    with pytest.raises(ConfigError, match="predictions have no entropy"):
        run_stage(stage, workspace)


@pytest.mark.parametrize("name", ["fisher", "regmean", "learned"])
def test_batch_norm_is_calibrated_after_a_fusion_that_reads_data(name: str, pair: StudyData, tmp_path: Path) -> None:
    workspace = workspace_of(pair, BATCH_NORM)
    stage = joint_stage(workspace, merge(name), tmp_path)
    before = {task: load_file(Path(folder) / "model.safetensors") for task, folder in stage.singles.items()}
    run_stage(stage, workspace)
    fused = files_of(stage)[1]
    x = workspace.splits["train"].inputs["main"][:].single
    hidden = x @ fused["blocks.0.0.0.weight"].T + fused["blocks.0.0.0.bias"]
    torch.testing.assert_close(fused["blocks.0.0.1.running_mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
    assert all(same(before[task], load_model(Path(folder))) for task, folder in stage.singles.items())


def cases() -> dict[str, tuple[Component, Component]]:
    """Fusion and backbone."""
    few, short = {"rows": 40}, {"steps": 10}
    return {
        "fisher": (Component("fisher", few), MLP),
        "regmean": (Component("regmean", few), MLP),
        "dare": (Component("dare"), MLP),
        "learned": (Component("learned", short), MLP),
        "learned_gate": (Component("learned_gate", short), MLP),
        "learned, batch norm": (Component("learned", short), BATCH_NORM),
    }


def carry_out(world: DistributedContext, folder: Path) -> dict[str, Any]:
    found = {}
    for name, (fusion, backbone) in cases().items():
        workspace = workspace_of(data_of(PAIR), backbone, world)
        stage = joint_stage(workspace, merge(fusion), folder / backbone.name)
        found[name] = fused_model(stage.tasks, stage.recipe, stage.singles, workspace).state_dict()
    return found


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Folder of a group of two, and what each rank found."""
    folder = tmp_path_factory.mktemp("group")
    return folder, in_a_group_of_two(carry_out, folder, folder)


@pytest.mark.parametrize("case", cases())
def test_ranks_start_from_the_same_bits_and_a_group_as_one_worker(
    case: str, group: tuple[Path, list[dict[str, Any]]]
) -> None:
    folder, found = group
    first, second = (each[case] for each in found)
    assert same(first, second)
    fusion, backbone = cases()[case]
    singles = {task: str(folder / backbone.name / task) for task in PAIR}  # those that the group trained
    alone = fused_model(tuple(PAIR), merge(fusion), singles, workspace_of(data_of(PAIR), backbone)).state_dict()
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=1e-6)


def test_scored_fusion_weighs_models_by_what_fine_tuning_gained(pair: StudyData, tmp_path: Path) -> None:
    workspace = workspace_of(pair)
    stage = joint_stage(workspace, recipe_of(Schedule(0, 32), fusion=Component("scored", {"power": 2.0})), tmp_path)
    gains = {}
    for task, folder in stage.singles.items():
        result = read_result(Path(folder) / "result.json")
        first = result.history[0].score
        gains[task] = max((result.best_score - first) / abs(first), 1e-6)
    stated = Component("weighted", {"coefficients": {task: gain**2 for task, gain in gains.items()}})
    tasks = list(stage.singles)
    ours, theirs = (
        fused_model(tasks, replace(stage.recipe, fusion=fusion), stage.singles, workspace).state_dict()
        for fusion in (stage.recipe.fusion, stated)
    )
    assert len(set(gains.values())) > 1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
