"""Compiled blocks train as plain ones do, with every way to balance, also where blocks run with other parameters."""

from dataclasses import replace

import pytest
import torch
from small_workloads import EVERY_KIND, data_of, step_of, workload_of
from torch._dynamo.utils import counters

from mtl_search.models.cost import multiply_adds
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.workspace import Workspace
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

pytestmark = [
    pytest.mark.slow,  # compiling takes tens of seconds, once
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf"
    ),  # torch's own look at guards
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]
TASKS = ("digit", "ink")
HARD, ADAPTERS = Component("hard", {"depth": 1}), Component("adapters", {"rank": 2})
CASES = [*((HARD, name) for name in ("uncertainty", "mgda", "graddrop", "auto_lambda")), (ADAPTERS, "fixed")]


@pytest.mark.parametrize(("sharing", "weighting"), CASES, ids=lambda value: getattr(value, "name", value))
def test_compiled_blocks_train_as_plain_ones(sharing: Component, weighting: str) -> None:
    workload = workload_of(data_of({task: EVERY_KIND[task] for task in TASKS}))
    states, costs = [], []
    for compiled in (False, True):
        workspace = Workspace(replace(workload, compiled=compiled), DistributedContext())
        model = workspace.model(TASKS, sharing)
        step = step_of(workspace, model, Schedule(batch_size=32), build(WEIGHTINGS, Component(weighting)))
        step.run_epoch(1, lambda _: 1.0)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        costs.append(multiply_adds(model, workload.data.preparation.feature_shape))
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-4)
    assert costs[0] == costs[1] > 0
    assert counters["stats"]["unique_graphs"] > 0
