"""DeployedModel: encoded rows in, predictions out, the same once exported."""

import io

import pytest
import torch
from torch import nn

from mtl_search.data.task import Task
from mtl_search.input_kinds.preparation import Preparation
from mtl_search.models.backbones.base import Backbone
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.backbones.python_backbone import PythonBackbone
from mtl_search.models.backbones.resnet import ResNet
from mtl_search.models.deployed import DeployedModel
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.adapters import Adapters
from mtl_search.models.sharing.adversarial import Adversarial
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.cross_stitch import CrossStitch
from mtl_search.models.sharing.experts import Experts
from mtl_search.models.sharing.hard import Hard
from mtl_search.models.sharing.none import NoSharing
from mtl_search.models.sharing.soft import Soft
from mtl_search.models.sharing.tree import Tree
from mtl_search.recipe import Component


def normalised(input_shape: tuple[int, ...]) -> list[nn.Module]:
    channels = input_shape[0]
    return [nn.BatchNorm2d(channels), nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.BatchNorm1d(7), nn.Dropout(0.5))]


LABELS: dict[str, tuple[str, ...]] = {
    "classification": ("p", "q", "r"),
    "multilabel": ("u", "v"),
    "binary": ("no", "yes"),
    "regression": (),
}
BACKBONES = [
    Mlp(width=6, depth=2, dropout=0.3),
    ResNet(width=4, stages=2),
    PythonBackbone(f"{__name__}:normalised"),
]


SHARINGS = [
    Hard(1),
    NoSharing(),
    Tree([["type", "price"], ["tags", "is-new"]]),
    Soft(),
    Experts(2, depth=0, private=1),
    Adapters(),
    CrossStitch(),
    Adversarial(),
]


def deployed(backbone: Backbone, sharing: Sharing = SHARINGS[0]) -> DeployedModel:
    torch.manual_seed(0)
    tasks = [
        Task(name, kind, "main", LABELS[kind], 3.0, 2.0, "unused", Component("accuracy"), "y")
        for name, kind in zip(("type", "tags", "is-new", "price"), LABELS, strict=True)
    ]
    plan = sharing.plan([task.name for task in tasks], len(backbone.blocks((1, 6, 6))))
    model = MultiTaskModel(backbone, (1, 6, 6), tasks, plan, ["main"], sharing.module_factory)
    return DeployedModel(
        Preparation(
            {"kind": "array", "column": "x", "shape": [6, 6], "dtype": "float32", "means": [0.5], "scales": [2.0]}
        ),
        model,
        tasks,
    )


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: type(backbone).__name__)
def test_exported_program_matches_for_any_number_of_rows(backbone: Backbone) -> None:
    assert_exports(deployed(backbone))


@pytest.mark.parametrize("sharing", SHARINGS[1:], ids=lambda sharing: type(sharing).__name__)
def test_exported_program_matches_under_every_sharing(sharing: Sharing) -> None:
    assert_exports(deployed(BACKBONES[0], sharing))


def assert_exports(model: DeployedModel) -> None:
    rows = torch.export.Dim("rows", min=1, max=4096)
    program = torch.export.export(model, (torch.randn(5, 6, 6),), dynamic_shapes={"encoded": ({0: rows},)})
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for count in (1, 2, 7, 64):
        x = torch.randn(count, 6, 6)
        for got, wanted in zip(loaded(x), model(x), strict=True):
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("backbone", BACKBONES[:2], ids=lambda backbone: type(backbone).__name__)
def test_predictions_come_in_the_order_of_the_tasks(backbone: Backbone) -> None:
    model = deployed(backbone)
    classes, tags, new, price = model(torch.randn(4, 6, 6))
    torch.testing.assert_close(classes.sum(1), torch.ones(4))
    assert tags.shape == (4, 2)
    assert new.shape == price.shape == (4,)
    assert ((new > 0) & (new < 1)).all()


def test_prediction_undoes_the_scaling_of_a_regression() -> None:
    model = deployed(Mlp(width=6, depth=2))
    x = torch.randn(4, 6, 6)
    raw = model.model((x[:, None] - 0.5) / 2)["price"]
    torch.testing.assert_close(model(x)[3], raw * 2 + 3)


def test_deployed_model_predicts_without_dropout() -> None:
    model = deployed(Mlp(width=6, depth=2, dropout=0.5))
    x = torch.randn(4, 6, 6)
    assert all(torch.equal(a, b) for a, b in zip(model(x), model(x), strict=True))
