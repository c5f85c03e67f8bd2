"""Training on NVIDIA GPUs: the results of a CPU, half precision, compiled blocks, and two devices against one.

`make test-gpu` runs these where CUDA is; elsewhere they are collected and skipped.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_workloads import BATCH_NORM, EVERY_KIND, MLP, data_of, joint_stage, recipe_of, step_of, workload_of
from torch import Tensor

from mtl_search.config.study_config import ActivationsConfig
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.stages import run_stage
from mtl_search.training.workspace import Workspace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU (torch finds no CUDA device)"),
]
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")

FIRST = torch.device("cuda", 0)
CPU = torch.device("cpu")
TASKS = {task: EVERY_KIND[task] for task in ("digit", "odd", "ink")}
SCHEDULE = Schedule(epochs=2, batch_size=32, optimizer=Component("sgd", {"lr": 0.05}))


def workspace(
    device: torch.device, backbone: Component = MLP, half: torch.dtype | None = None, compiled: bool = False
) -> Workspace:
    workload = replace(workload_of(data_of(TASKS, holes=False), backbone), compiled=compiled)
    return Workspace(workload, DistributedContext(device=device, half=half))


def losses(
    device: torch.device, backbone: Component = MLP, half: torch.dtype | None = None, compiled: bool = False
) -> Tensor:
    """Mean task losses of each epoch, (epochs, tasks), on the CPU."""
    made = workspace(device, backbone, half, compiled)
    model = made.model(list(TASKS), Component("hard", {"depth": 1}))
    step = step_of(made, model, SCHEDULE)
    return torch.stack([step.run_epoch(epoch, lambda _: 1.0).float().cpu() for epoch in (1, 2, 3)])


@pytest.mark.parametrize("backbone", [MLP, BATCH_NORM], ids=["mlp", "batch norm"])
def test_a_gpu_comes_to_the_losses_of_a_cpu(backbone: Component) -> None:
    torch.testing.assert_close(losses(FIRST, backbone), losses(CPU, backbone), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_comes_near_the_losses_of_float32(half: torch.dtype) -> None:
    if half is torch.bfloat16 and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bfloat16")
    found = losses(FIRST, half=half)
    assert found.isfinite().all()
    torch.testing.assert_close(found, losses(FIRST), rtol=0.05, atol=0.02)


def test_float16_scales_its_gradients_and_passes_over_updates_that_overflow() -> None:
    made = workspace(FIRST, half=torch.float16)
    assert made.world.scales
    step = step_of(made, made.model(list(TASKS), Component("hard", {"depth": 1})), SCHEDULE)
    step.run_epoch(1, lambda _: 1.0)
    before = step.state_dict()["scaler"]["scale"]
    assert before > 1
    step._scaler._scale.fill_(2.0**60)  # type: ignore[union-attr]
    step.run_epoch(2, lambda _: 1.0)
    assert step.state_dict()["scaler"]["scale"] < 2.0**60
    assert all(parameter.isfinite().all() for parameter in step._model.parameters())


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_blocks_come_to_the_losses_of_plain_ones() -> None:
    torch.testing.assert_close(losses(FIRST, compiled=True), losses(FIRST), rtol=2e-3, atol=2e-4)


def test_activations_of_frozen_blocks_are_kept_on_the_device_and_change_nothing(tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, unfreezing=Component("never"))
    recipe = recipe_of(schedule, schedule)
    metrics = []
    for name, budget in (("kept", ActivationsConfig()), ("plain", ActivationsConfig(device_mib=0, host_mib=0))):
        made = Workspace(workload_of(data_of(TASKS, holes=False)), DistributedContext(device=FIRST), budget)
        metrics.append(run_stage(joint_stage(made, recipe, tmp_path / name), made).metrics)
        assert (made.activations.held()[0] > 0) == (name == "kept")
    assert metrics[0] == metrics[1]


def _rank(rank: int, size: int, folder: str, backbone: Component) -> None:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    try:
        workload = workload_of(data_of(TASKS, holes=False), backbone)
        made = Workspace(workload, DistributedContext(rank, size, device))
        model = made.model(list(TASKS), Component("hard", {"depth": 1}))
        step = step_of(made, model, SCHEDULE)
        found = torch.stack([step.run_epoch(epoch, lambda _: 1.0).cpu() for epoch in (1, 2, 3)])
        if rank == 0:
            torch.save(found, f"{folder}/losses.pt")
    finally:
        dist.destroy_process_group()


@needs_two
@pytest.mark.parametrize("backbone", [MLP, BATCH_NORM], ids=["mlp", "synchronised batch norm"])
def test_two_devices_make_the_updates_of_one(backbone: Component, tmp_path: Path) -> None:
    mp.spawn(_rank, args=(2, str(tmp_path), backbone), nprocs=2)
    found = torch.load(tmp_path / "losses.pt", weights_only=True)
    torch.testing.assert_close(found, losses(FIRST, backbone), rtol=2e-3, atol=2e-4)
