"""Trunks: an earlier study's knowledge by its name, its folder, its export and its entry in MLflow's registry."""

from pathlib import Path

import pytest
import torch
from finished_studies import Finished
from torch import Tensor

from mtl_search.data.task import Task
from mtl_search.errors import MtlSearchError
from mtl_search.export.bundle import ExportReport
from mtl_search.export.registry import register_champion
from mtl_search.export.trunks import trunk, trunk_of
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component
from mtl_search.variants.building import build

NOWHERE = "sqlite:///nowhere.db"


def shared_block(study: Finished) -> dict[str, Tensor]:
    """The one block of three that the tasks of the table's study share."""
    return {f"0.{name}": value for name, value in study.model.blocks[0][0].state_dict().items()}


def assert_trunk_of(found: dict[str, Tensor], study: Finished) -> None:
    assert {name.partition(".")[0] for name in found} == {"0", "1", "2"}
    for name, value in shared_block(study).items():
        assert torch.equal(found[name], value)


def test_a_study_is_found_by_name_and_by_folder(table_study: Finished, tmp_path: Path) -> None:
    folder = table_study.folder
    assert_trunk_of(trunk(folder.name, folder.storage, NOWHERE), table_study)
    assert_trunk_of(trunk(str(folder.path), tmp_path, NOWHERE), table_study)


def test_an_exported_model_is_found_by_its_folder(
    exported: ExportReport, table_study: Finished, tmp_path: Path
) -> None:
    assert_trunk_of(trunk(str(exported.folder), tmp_path, NOWHERE), table_study)


def test_a_registered_model_is_found_by_its_alias_and_version(table_study: Finished, uri: str, tmp_path: Path) -> None:
    registration = register_champion(table_study.folder, uri, None, "census")
    for name in (registration.uri, f"models:/census/{registration.version}"):
        assert_trunk_of(trunk(name, tmp_path, uri), table_study)
    with pytest.raises(MtlSearchError, match="models:/absent@champion"):
        trunk("models:/absent@champion", tmp_path, uri)


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MtlSearchError, match="no study 'absent'"):
        trunk("absent", tmp_path, NOWHERE)


def test_most_tasks_decide_and_ties_are_averaged(table_study: Finished) -> None:
    tasks = tuple(Task.from_dict(task.to_dict()) for task in table_study.data.tasks)
    names = [task.name for task in tasks]
    plan = SharingPlan(((tuple(names),), (tuple(names[:3]), (names[3],)), tuple((name,) for name in names)))
    backbone = build(BACKBONES, Component("mlp", {"width": 4, "depth": 3}))
    model = MultiTaskModel(backbone, (5,), tasks, plan, table_study.data.datasets)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.fill_(number)
    found, copies = trunk_of(model), [list(block.children()) for block in model.blocks]
    assert torch.equal(found["1.linear.weight"], copies[1][0].state_dict()["linear.weight"])
    of_last = [copy.state_dict()["linear.weight"] for copy in copies[2]]
    torch.testing.assert_close(found["2.linear.weight"], torch.stack(of_last).mean(0))
