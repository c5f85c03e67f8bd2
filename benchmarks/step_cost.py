"""What a training step costs: every weighting against a plain sum of losses, and that against a hand-written loop.

Measured for 2, 4, 8 and 16 tasks that share a whole trunk, a small residual convolutional net or a transformer of four
layers (``side_by_side`` says how time and memory are measured; figures are ratios to this project's own step with
``fixed`` weights):

- every weighting, those that balance gradients at the last shared representation and at all shared parameters;
  ``fixed`` against a second ``fixed`` shows how far noise goes;
- a hand-written loop: the same layers, batches of the same size, the same optimiser and equal weights, in ten lines of
  PyTorch that do nothing else;
- torchjd's ``mtl_backward``, and LibMTL's weightings where it is installed, in the same loop.

A weighting's ``at`` is where it takes gradients; ``look_ahead`` for one that learns from the losses after a trial step,
which costs three forward passes and a backward pass more. Loss-only methods measure the tasks' gradients in one step of
32, as any study does; it is in their time, and in their memory as the most that any step takes.

    python benchmarks/step_cost.py [--quick] [--json FILE] [--device cpu] [--models ..] [--tasks ..] [--weightings ..]

What is in the way, profiled on one core with eight tasks and steps of 30 to 40 ms: at the representation the split
backward pass and the Gramian cost 1 to 2 ms, so what a method costs is its solver. Through cvxpy ``cagrad`` took 12 ms
(1.38 and 1.43 of a plain step) and ``nash_mtl`` 110 ms (4.0 and 4.6), as a problem was built and compiled at every
step; solved directly they take under 1 ms (1.06 to 1.14). Methods written as loops over small tensors pay for every
operation (``mgda``, ``pcgrad``, 2 to 3 ms). At the shared parameters there is one trunk backward pass per task.
"""

import argparse
import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from figures import write_figures
from side_by_side import (
    BATCH,
    FEW_STEPS,
    MODELS,
    SCHEDULE,
    Loop,
    Table,
    device_of,
    own_loop,
    peak_bytes,
    say,
    time_ratio,
    workspace_of,
)
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.errors import ConfigError
from mtl_search.recipe import Component
from mtl_search.training.workspace import Workspace
from mtl_search.transfer import OPTIMIZERS
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS
from mtl_search.weighting.look_ahead import LookAhead

HARD = Component("hard")
HAND_WRITTEN = "hand-written"
QUICK = ["uncertainty", "famo", "upgrad"]
Outputs = tuple[Tensor, list[Tensor]]
"""The trunk's output, and every task's."""
Backward = Callable[[Tensor, list[Tensor]], object]
"""From the trunk's output and the tasks' losses to gradients on all parameters."""
Make = Callable[[Workspace], Loop]


class Plain(nn.Module):
    """The layers of a model that shares its whole trunk, wired by hand."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        model = workspace.model([task.name for task in workspace.workload.data.tasks], HARD)
        self.trunk = nn.Sequential(*(copy.deepcopy(next(block.children())) for block in model.blocks))
        self.heads = nn.ModuleDict(
            {
                task.name: copy.deepcopy(head.linear)
                for task, head in zip(model.tasks, model.heads.values(), strict=True)
            }
        )

    def forward(self, x: Tensor) -> Outputs:
        features = self.trunk(x)
        return features, [head(features) for head in self.heads.values()]


def plain_loop(workspace: Workspace, model: nn.Module, backward: Backward) -> Loop:
    """A training loop as one writes it by hand, on the rows of the same training split.

    Args:
        workspace: Of tasks on one data set.
        model: Gives ``Outputs``.
        backward: Fills the gradients.
    """
    split = workspace.splits["train"]
    (inputs,) = split.inputs.values()
    x = inputs[:].single
    targets = list(split.targets.values())
    optimizer = build(OPTIMIZERS, SCHEDULE.optimizer).build(model.parameters())

    def epoch(turn: Callable[[], object]) -> None:
        model.train()
        for rows in torch.randperm(len(x), device=x.device).split(BATCH):
            turn()
            features, outputs = model(x[rows])
            losses = [functional.cross_entropy(out, y[rows]) for out, y in zip(outputs, targets, strict=True)]
            optimizer.zero_grad()
            backward(features, losses)
            optimizer.step()

    return Loop(epoch, len(x) // BATCH, model, optimizer)


def hand_written(workspace: Workspace) -> Loop:
    """Equal weights and nothing else."""
    return plain_loop(workspace, Plain(workspace), lambda _, losses: torch.stack(losses).sum().backward())


def of_torchjd(workspace: Workspace) -> Loop:
    """The way of torchjd to balance gradients at the shared parameters, by UPGrad.

    Raises:
        ImportError: It is not installed, or its solver is not.
    """
    from torchjd.aggregation import UPGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    plain = Plain(workspace)
    shared, own = list(plain.trunk.parameters()), [list(head.parameters()) for head in plain.heads.values()]
    aggregator = UPGrad()

    def backward(features: Tensor, losses: list[Tensor]) -> None:
        mtl_backward(losses, features=features, tasks_params=own, shared_params=shared)
        jac_to_grad(shared, aggregator)

    return plain_loop(workspace, plain, backward)


class Wrapped(nn.Module):
    """A model of LibMTL's as a plain one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Outputs:
        return x, list(self.model(x).values())


def of_libmtl(name: str, at_representation: bool, workspace: Workspace) -> Loop:
    """One of LibMTL's weightings, which are base classes of its models.

    Args:
        name: Of its class.
        at_representation: Where it takes gradients; at the shared parameters release 1.1.5 fails with today's PyTorch.
        workspace: Of tasks on one data set.

    Raises:
        ImportError: It is not installed, or a package that it imports is not.
    """
    import LibMTL.weighting
    from LibMTL.architecture import HPS

    plain = Plain(workspace)
    combined = type("Combined", (HPS, getattr(LibMTL.weighting, name)), {})
    model = combined(
        list(plain.heads), lambda: plain.trunk, plain.heads, at_representation, False, workspace.world.device
    )
    model.init_param()
    return plain_loop(workspace, Wrapped(model), lambda _, losses: model.backward(torch.stack(losses), mgda_gn="none"))


BESIDE: dict[str, tuple[str, Make]] = {
    HAND_WRITTEN: ("jacobian_free", hand_written),
    "torchjd upgrad": ("shared", of_torchjd),
    "LibMTL EW": ("jacobian_free", partial(of_libmtl, "EW", False)),
    "LibMTL MGDA": ("representation", partial(of_libmtl, "MGDA", True)),
}
"""Loops that are not this project's: where each takes gradients, and how to make it."""


def contestants(names: list[str], quick: bool) -> Iterator[tuple[str, str, Make]]:
    """Name, place and maker of every loop; this project's weightings at every place, or quickly at the cheapest."""
    for name, (at, make) in BESIDE.items():
        if not quick or at == "jacobian_free":
            yield name, at, make
    for name in names:
        places = WEIGHTINGS[name].places
        for at in places[:1] if quick else places:
            weighting = Component(name, {"at": at} if len(places) > 1 else {})
            shown = "look_ahead" if issubclass(WEIGHTINGS[name], LookAhead) else at
            yield name, shown, lambda workspace, weighting=weighting: own_loop(workspace, HARD, weighting)


class Contest:
    """All loops on one model and number of tasks, each against the plain sum.

    Args:
        model: One of ``MODELS``.
        tasks: How many.
        device: Where.
    """

    def __init__(self, model: str, tasks: int, device: torch.device) -> None:
        self._model, self._tasks, self._device = model, tasks, device
        self._long = workspace_of(model, tasks, device)
        self._short = workspace_of(model, tasks, device, FEW_STEPS)
        fixed = Component("fixed")
        self._peak = peak_bytes(own_loop(self._short, HARD, fixed), device)
        self._plain_sum = own_loop(self._long, HARD, fixed)

    def row(self, name: str, at: str, make: Make, rounds: int, patience: float) -> dict[str, Any]:
        """What a loop costs.

        Raises:
            ImportError: The loop is a library's that is not installed.
            ConfigError: So is the weighting's solver.
        """
        memory = peak_bytes(make(self._short), self._device)
        ratio, seconds = time_ratio(self._plain_sum, make(self._long), self._device, rounds, patience)
        return {
            "model": self._model,
            "tasks": self._tasks,
            "weighting": name,
            "at": at,
            "time_ratio": ratio,
            "memory_ratio": memory / self._peak,
            "step_ms": 1000 * seconds,
            "memory_mb": memory / 1e6,
        }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every row, printed as it is found."""
    device = device_of(arguments.device)
    rounds, patience = (4, 2.0) if arguments.quick else (9, 12.0)
    columns = {"model": 13, "tasks": 5, "weighting": 15, "at": 14, "time_ratio": 10, "memory_ratio": 12, "step_ms": 9}
    say(f"One training step on {device}, relative to a plain sum of losses (this project's step with fixed weights)")
    table, skipped = Table({**columns, "memory_mb": 9}), set()
    for model in arguments.models:
        for tasks in arguments.tasks:
            contest = Contest(model, tasks, device)
            for name, at, make in contestants(arguments.weightings, arguments.quick):
                more = 3 if name == HAND_WRITTEN else 1  # it is held to a few per cent
                try:
                    table.add(contest.row(name, at, make, more * rounds, more * patience))
                except (ImportError, ConfigError) as error:
                    if name not in skipped:
                        say(f"{name}: skipped ({error})")
                    skipped.add(name)
    own = [row for row in table.rows if row["weighting"] not in BESIDE]
    beside = [row for row in table.rows if row["weighting"] in BESIDE]
    held = [
        row["time_ratio"]
        for row in beside
        if (row["weighting"], row["model"], row["tasks"]) == (HAND_WRITTEN, "convolutional", 8)
    ]
    return {"rows": own, "beside": beside, "hand_written_ratio": held[0] if held else None}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description="Time and memory of a training step, relative to a plain sum of losses."
    )
    parser.add_argument("--quick", action="store_true", help="8 tasks and a few weightings, under a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; one has the least noise")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--tasks", nargs="+", type=int)
    parser.add_argument("--weightings", nargs="+", choices=WEIGHTINGS)
    arguments = parser.parse_args()
    arguments.tasks = arguments.tasks or ([8] if arguments.quick else [2, 4, 8, 16])
    arguments.weightings = arguments.weightings or (QUICK if arguments.quick else list(WEIGHTINGS))
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", "There is a performance drop")  # torchjd's vmap over attention: its cost is shown
    figures = measure(arguments)
    if figures["hand_written_ratio"] is not None:
        say(f"hand_written_ratio {figures['hand_written_ratio']:.3f} (samples per second over a hand-written loop's)")
    write_figures(arguments.json, figures)


if __name__ == "__main__":
    main()
