"""Evaluation: metrics of a model on one split."""

from pathlib import Path

import pytest
import torch
from small_workloads import (
    EVERY_KIND,
    data_of,
    recipe_of,
    single_stages,
    workspace_of,
)

from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.evaluation import evaluate
from mtl_search.training.stages import run_stage
from mtl_search.training.workspace import Workspace

ADAMW = Component("adamw", {"lr": 0.01})
DROPOUT = Component("mlp", {"width": 12, "depth": 2, "dropout": 0.2})


def test_evaluation_in_several_chunks_leaves_the_numbers_as_they_are(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = workspace.model(list(EVERY_KIND), recipe_of(Schedule()).sharing)
    whole = evaluate(model, workspace.splits["validation"], workspace.metrics, DistributedContext())
    monkeypatch.setattr("mtl_search.training.evaluation.CHUNK", 7)
    model.train()
    parts = evaluate(model, workspace.splits["validation"], workspace.metrics, DistributedContext())
    assert model.training
    for task, found in whole.items():
        assert parts[task] == pytest.approx(found, abs=1e-6)


def test_what_a_block_keeps_from_evaluation_serves_in_training(tmp_path: Path) -> None:
    backbone = Component("python", {"function": "test_evaluation:blocks_that_keep"})
    workspace = workspace_of(data_of({"ink": EVERY_KIND["ink"]}), backbone)
    recipe = recipe_of(Schedule(), Schedule(1, 32, ADAMW))
    (stage,) = single_stages(workspace, recipe, tmp_path).values()
    assert len(run_stage(stage, workspace).history) == 2


class Keeping(torch.nn.Module):
    """Works something out once, as rotary embeddings do."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(inputs, 4)
        self.kept: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        if self.kept is None and x.shape[0] > 2:
            self.kept = torch.linspace(1, 2, 4) * 1
        return y if self.kept is None else y * self.kept


def blocks_that_keep(input_shape: tuple[int, ...]) -> list[torch.nn.Module]:
    return [Keeping(input_shape[0])]
