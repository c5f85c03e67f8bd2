"""What an epoch costs whose leading blocks are frozen, with and without their activations kept.

Two tasks share the small residual net of ``side_by_side`` (a stem and three residual blocks, random images of 14 x 14);
one joint stage thaws it block by block from the top (``gradual``), once with the default budget for activations and
once with none. By number of frozen blocks: seconds of an epoch (validation included), the fastest of those that find
all activations made, and the seconds of the epoch that makes them. ``speedup`` is that of the whole trunk frozen, which
is every epoch of ``never`` and the first ones of ``heads_first``. Both runs must end with the same bits.

    python benchmarks/frozen_prefix.py [--quick] [--json FILE] [--device cpu]

What is in the way, profiled on one core: with the whole trunk frozen a step is 0.8 to 1.2 ms of heads, bookkeeping and
optimiser, spread thin over many small calls, where the trunk's forward pass alone takes 12 ms. With fewer blocks
frozen, what remains is the forward and backward pass of those that learn, which nothing kept can save: the last block
of this net has three quarters of its parameters. The epoch that makes the activations runs the frozen blocks once over
all rows, as any epoch does, and over a few batches more to try whether the bits hold.
"""

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from figures import write_figures
from side_by_side import BATCH, Table, device_of, say, workspace_of

from mtl_search.config.study_config import ActivationsConfig
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.results.objective import Objective
from mtl_search.storage.checkpoint import load_model
from mtl_search.training.control import NoControl
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import Stage, run_stage
from mtl_search.training.workspace import Workload, Workspace

EPOCHS = 3
"""Of every number of frozen blocks; the first makes the activations."""
BUDGETS = {"kept": ActivationsConfig(), "plain": ActivationsConfig(device_mib=0, host_mib=0, disk_mib=0)}


class Clock(NoControl):
    """Writes down when each epoch ended.

    Args:
        device: On a CPU with one thread, time is what the process had the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._own = device.type == "cpu" and torch.get_num_threads() == 1
        self.times: list[float] = []

    def report(self, epoch: dict[str, Any]) -> None:
        """Take the time; the epoch's figures are on the host, so a GPU has nothing left to do."""
        self.times.append(time.process_time() if self._own else time.perf_counter())


def recipe_of(blocks: int) -> Recipe:
    """A joint stage that thaws block by block, from single-task models that are the base."""
    gradual = Component("gradual", {"epochs": EPOCHS})
    joint = Schedule(EPOCHS * (blocks + 1), BATCH, Component("adamw"), unfreezing=gradual)
    return Recipe(Component("hard"), Component("mean"), Component("fixed"), Schedule(0, BATCH), joint)


def epochs_of(workspace: Workspace, recipe: Recipe, folder: Path) -> list[float]:
    """Seconds of every training epoch of the joint stage."""
    tasks = tuple(task.name for task in workspace.workload.data.tasks)
    goals = task_goals(workspace.workload.data)
    singles = {
        task: Stage(task, "single_task", (task,), recipe, str(folder / task), Objective({task: goals[task]}, task))
        for task in tasks
    }
    for stage in singles.values():
        run_stage(stage, workspace)
    folders = {task: stage.folder for task, stage in singles.items()}
    objective = Objective({tasks[0]: goals[tasks[0]]}, tasks[0])
    stage = Stage("joint", "joint", tasks, recipe, str(folder / "joint"), objective, folders)
    clock = Clock(workspace.world.device)
    run_stage(stage, workspace, clock)
    return [after - before for before, after in pairwise(clock.times)]


def measure(workload: Workload, device: torch.device, rounds: int) -> dict[str, Any]:
    """Every row, printed as it is found; rounds of both runs, one after the other."""
    recipe = recipe_of(workload.blocks)
    world = DistributedContext.current(device, "fp32")
    seconds: dict[str, list[list[float]]] = {name: [] for name in BUDGETS}
    same = True
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            for name, budget in BUDGETS.items():
                taken = epochs_of(Workspace(workload, world, budget), recipe, Path(folder, name))
                if number:  # the first round warms up
                    seconds[name].append(taken)
            kept, plain = (load_model(Path(folder, name, "joint")) for name in BUDGETS)
            same &= all(torch.equal(value, plain[name]) for name, value in kept.items())
    table = Table({"frozen": 6, "of": 3, "plain_s": 9, "kept_s": 9, "making_s": 9, "speedup": 8})
    for phase in range(workload.blocks + 1):
        first = phase * EPOCHS
        later = slice(first + 1, first + EPOCHS)
        best = {name: min(min(taken[later]) for taken in runs) for name, runs in seconds.items()}
        table.add(
            {
                "frozen": workload.blocks - phase,
                "of": workload.blocks,
                "plain_s": best["plain"],
                "kept_s": best["kept"],
                "making_s": statistics.median(taken[first] for taken in seconds["kept"]),
                "speedup": best["plain"] / best["kept"],
            }
        )
    return {"rows": table.rows, "speedup": table.rows[0]["speedup"], "same_bits": same}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description="Epochs with frozen blocks, with and without their activations kept.")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, under a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; one has the least noise")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = device_of(arguments.device)
    workload = workspace_of("convolutional", 2, device, 12 if arguments.quick else 64).workload
    figures = measure(workload, device, 1 if arguments.quick else 3)
    say(f"speedup {figures['speedup']:.1f} with the whole trunk frozen; the same bits: {figures['same_bits']}")
    write_figures(arguments.json, figures)


if __name__ == "__main__":
    main()
