"""A trained model of two tasks on iris, of any sharing, and what it becomes with a third task."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.data.trained_schema import TrainedSchema
from mtl_search.extension.base import Extension, ExtensionData
from mtl_search.models.branching import Blueprint, extend_state
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Schedule
from mtl_search.training.control import NoControl

INPUTS = ["sepal length (cm)", "sepal width (cm)"]
OLD = {
    "kind": {"kind": "classification", "target": "target"},
    "petal": {"kind": "regression", "target": "petal width (cm)"},
}
NEW = {"length": {"kind": "regression", "target": "petal length (cm)"}}
SHARINGS = {
    "hard": {"depth": 2},
    "none": {},
    "tree": {"groups": [["kind"], ["petal"]], "depth": 1},
    "soft": {},
    "experts": {"count": 2},
    "adapters": {"rank": 2},
    "cross_stitch": {},
    "adversarial": {},
}
MLP = Component("mlp", {"width": 8, "depth": 3, "dropout": 0.2})
NORMED = Component("python", {"function": f"{__name__}:normed"})


def normed(input_shape: tuple[int, ...]) -> list[nn.Module]:
    first = nn.Sequential(nn.Linear(input_shape[0], 8), nn.BatchNorm1d(8), nn.ReLU())
    return [first, nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)), nn.Linear(8, 8)]


def iris(tasks: dict[str, dict[str, str]], known: TrainedSchema | None = None) -> StudyData:
    config = DataConfig.model_validate({"source": {"sklearn": {"name": "iris", "inputs": INPUTS}}})
    return load_data(config, {name: TaskConfig.model_validate(task) for name, task in tasks.items()}, 0, known=known)


def trained(sharing: str, backbone: Component = MLP) -> tuple[StudyData, Blueprint, MultiTaskModel]:
    """An old model; parameters drawn, so that nothing in it is zero or alike by design."""
    data = iris(OLD)
    first, second = data.tasks
    # Tasks of data sets of their own, since adversarial sharing asks for them.
    tasks = (first, replace(second, dataset="other"))
    shape = data.preparation.feature_shape
    blueprint = Blueprint(backbone, shape, 3, Component(sharing, SHARINGS[sharing]), tasks, ("main", "other"))
    torch.manual_seed(1)
    model = blueprint.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return data, blueprint, model.eval()


def extend(
    method: Extension, folder: Path, sharing: str = "hard", backbone: Component = MLP, epochs: int = 3
) -> tuple[Blueprint, MultiTaskModel, MultiTaskModel, StudyData]:
    old_data, blueprint, old = trained(sharing, backbone)
    data = iris(OLD | NEW, TrainedSchema(old_data.preparation, {task.name: task for task in old_data.tasks}))
    task_branches = method.task_branches(old, tuple(NEW), "extend.method.x")
    grown = blueprint.grown([task for task in data.tasks if task.name in NEW], task_branches)
    model = grown.model()
    model.initialise(0)
    model.load_state_dict(extend_state(model, old.state_dict(), task_branches))
    schedule = Schedule(epochs=epochs, batch_size=16, optimizer=Component("adamw", {"lr": 0.01}))
    extension_data = ExtensionData(
        data, tuple(NEW), schedule, 0, DistributedContext(), folder, lambda stage: NoControl()
    )
    assert set(method.train(model, old, grown, extension_data)) == set(NEW)
    return grown, model.eval(), old, data


def rows(data: StudyData) -> Tensor:
    encoded = data.splits["test"]["main"].encoded
    (x,) = data.preparation(*(torch.from_numpy(part) for part in encoded)).values()
    return x
