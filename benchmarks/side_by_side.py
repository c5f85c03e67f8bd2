"""Ground for the benchmarks of the training step: models and data made in memory, and loops held against each other.

The data go the way of any study's (a ``python`` source, ``load_data``, ``Workload``, ``Workspace``, ``Step``), so that
what is measured is the real step, picking its rows and its epoch's bookkeeping included.

Time: two loops take turns, a step each (on a GPU, where steps overlap, an epoch each), so that what else the machine
does hits both alike. A round is an epoch of both, and what counts is the median of the rounds' ratios. An epoch has 32
steps, as many as it takes for everything that a step does only now and then. On one CPU thread it is the time that the
process had the CPU, which is that of the clock where nothing else runs.

Memory: parameters, optimiser state and the most that a few steps allocate at once beyond these: activations, gradients
and whatever a method keeps. The data set does not count. On a CPU the allocator's own record is read, as PyTorch's
profiler writes it down (every block, those made inside of kernels included; scratch memory that oneDNN takes by itself
is not in it). On a GPU it is ``torch.cuda.max_memory_allocated``.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import load_data
from mtl_search.display.redirect_output import redirect_output
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.transfer import OPTIMIZERS
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

BATCH = 64
CLASSES = 10
STEPS = 32
FEW_STEPS = 6
"""Of the epoch in which memory is measured: a full batch among the fifth of the rows that one weighting keeps aside."""
SCHEDULE = Schedule(1, BATCH, Component("adamw", {"lr": 1e-4}))


def made_up(shape: Sequence[int], rows: int, tasks: int, first: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Random samples of a shape with random labels for each task: what a step costs does not depend on them.

    Args:
        shape: Of one sample.
        rows: In the training split; the others have one batch each.
        tasks: Columns of labels, ``y<first>`` and on.
        first: Number of the first task.
    """
    random = np.random.default_rng(first)
    sizes = {"train": rows, "validation": BATCH, "test": BATCH}
    return {
        split: {
            "x": random.standard_normal((size, *shape), dtype=np.float32),
            **{f"y{number}": random.integers(0, CLASSES, size) for number in range(first, first + tasks)},
        }
        for split, size in sizes.items()
    }


class Layer(nn.Module):
    """A layer of a transformer encoder: (n, .., tokens, width) -> (n, tokens, width), or their mean (n, width)."""

    def __init__(self, width: int, heads: int, last: bool) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(1, -2))
        return y.mean(1) if self.last else y


def transformer(input_shape: tuple[int, ...], heads: int, layers: int) -> list[nn.Module]:
    """Blocks for embedded tokens, which come as an image of one channel."""
    return [Layer(input_shape[-1], heads, number == layers - 1) for number in range(layers)]


MODELS: dict[str, tuple[tuple[int, ...], Component]] = {
    "convolutional": ((1, 14, 14), Component("resnet")),
    "transformer": (
        (1, 16, 32),
        Component("python", {"function": "side_by_side:transformer", "params": {"heads": 4, "layers": 4}}),
    ),
}
"""By name, the shape of a sample and the backbone: 77 and 51 thousand parameters."""


def workspace_of(model: str, tasks: int, device: torch.device, steps: int = STEPS, apart: bool = False) -> Workspace:
    """A study's workspace.

    Args:
        model: One of ``MODELS``.
        tasks: How many, ``t0`` and on, each of ten classes.
        device: Where to.
        steps: Of an epoch.
        apart: Whether each task has a data set of its own; then a batch has as many rows in all.
    """
    shape, backbone = MODELS[model]
    parts = [(number, 1, steps * BATCH // tasks) for number in range(tasks)] if apart else [(0, tasks, steps * BATCH)]
    sources = {}
    for first, count, rows in parts:
        params = {"shape": list(shape), "rows": rows, "tasks": count, "first": first}
        sources[f"d{first}"] = {"python": {"function": "side_by_side:made_up", "params": params, "inputs": ["x"]}}
    named = {
        f"t{number}": {"kind": "classification", "target": f"y{number}", "data": f"d{number if apart else 0}"}
        for number in range(tasks)
    }
    data = load_data(
        DataConfig.model_validate({"sources": sources}),
        {name: TaskConfig.model_validate(task) for name, task in named.items()},
        seed=1,
    )
    workload = Workload.prepare(data, backbone, seed=1, precision="fp32")
    return Workspace(workload, DistributedContext.current(device, "fp32"))


@dataclass(frozen=True)
class Loop:
    """A way to train a model.

    Attributes:
        epoch: Trains for one epoch; calls what it is given before each step.
        steps: Of an epoch.
        model: All that is trained.
        optimizer: Over the model's parameters.
    """

    epoch: Callable[[Callable[[], object]], object]
    steps: int
    model: nn.Module
    optimizer: torch.optim.Optimizer


def own_loop(workspace: Workspace, sharing: Component, weighting: Component) -> Loop:
    """This project's way.

    Raises:
        ConfigError: The weighting's solver is not installed, or it cannot balance what is shared.
    """
    model = workspace.model([task.name for task in workspace.workload.data.tasks], sharing)
    optimizer = build(OPTIMIZERS, SCHEDULE.optimizer).build(model.parameters())
    weigh = build(WEIGHTINGS, weighting)
    step = Step(model, workspace.splits["train"], SCHEDULE, weigh, optimizer, 1, workspace.world)

    def epoch(turn: Callable[[], object]) -> None:
        def factor(_: int) -> float:
            turn()
            return 1.0

        step.run_epoch(1, factor)

    return Loop(epoch, step.steps, model, optimizer)


class Turns:
    """Two loops, one of which runs at a time.

    Args:
        device: Where they run.

    Attributes:
        seconds: What each has taken.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._threads = device, torch.get_num_threads()
        self._mine = [threading.Semaphore(0), threading.Semaphore(0)]
        self._done = False
        self._since = 0.0
        self.seconds = [0.0, 0.0]

    def run(self, loops: Sequence[Loop], first: int) -> None:
        """An epoch of both, in a thread each: alike, down to the memory that the threads are given."""
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(self._epoch, loop, side) for side, loop in enumerate(loops)]
            self._mine[first].release()
            for each in running:
                each.result()

    def _epoch(self, loop: Loop, side: int) -> None:
        torch.set_num_threads(self._threads)
        self._take(side)
        try:
            loop.epoch(lambda: self._pass_on(side))
        finally:
            self.seconds[side] += self._now() - self._since
            self._done = True
            self._mine[1 - side].release()

    def _pass_on(self, side: int) -> None:
        if self._device.type == "cpu" and not self._done:
            self.seconds[side] += self._now() - self._since
            self._mine[1 - side].release()
            self._take(side)

    def _take(self, side: int) -> None:
        self._mine[side].acquire()
        self._since = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self._device.type == "cpu" and self._threads == 1 else time.perf_counter()


def time_ratio(base: Loop, other: Loop, device: torch.device, rounds: int, patience: float) -> tuple[float, float]:
    """How long a loop takes relative to another.

    Args:
        base: What it is held against.
        other: The loop.
        device: Where both run.
        rounds: At most so many.
        patience: Seconds after which no further round begins.

    Returns:
        The ratio, and the loop's seconds per step; medians over the rounds.
    """
    ratios, seconds = [], []
    begin = time.perf_counter()
    while not ratios or (len(ratios) < rounds and time.perf_counter() - begin < patience):
        turns = Turns(device)
        turns.run((base, other), first=len(ratios) % 2)
        ratios.append(turns.seconds[1] / turns.seconds[0])
        seconds.append(turns.seconds[1])
    return statistics.median(ratios), statistics.median(seconds) / other.steps


def peak_bytes(loop: Loop, device: torch.device) -> int:
    """The most memory that an epoch takes at once, without the data set.

    Args:
        loop: Over few steps: the profiler writes down every block of memory.
        device: Where it runs.
    """
    loop.epoch(_alone)  # what is made once, the optimiser's state above all, is there from here on
    loop.optimizer.zero_grad(set_to_none=True)
    states = [value for state in loop.optimizer.state.values() for value in state.values()]
    held = [*loop.model.parameters(), *loop.model.buffers(), *(value for value in states if torch.is_tensor(value))]
    return sum(value.nbytes for value in held) + (_cuda_peak if device.type == "cuda" else _cpu_peak)(loop)


def _alone() -> None:
    """Nobody waits for a turn."""


def _cuda_peak(loop: Loop) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loop.epoch(_alone)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _cpu_peak(loop: Loop) -> int:
    with tempfile.TemporaryDirectory() as folder:
        with (
            redirect_output(Path(folder, "log")),
            profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found,
        ):
            loop.epoch(_alone)
        found.export_chrome_trace(str(Path(folder, "trace.json")))
        events = json.loads(Path(folder, "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    blocks = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    now = most = 0
    for _, size in blocks:
        now += size
        most = max(most, now)
    return most


def device_of(choice: str) -> torch.device:
    """A device by its name; ``auto`` for a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else torch.device(choice)


class Table:
    """Rows that are printed as they are found.

    Args:
        widths: By column, how wide it is.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        self._widths = dict(widths)
        self.rows: list[dict[str, Any]] = []
        say(" ".join(name.rjust(width) for name, width in widths.items()))

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row, and print those of its values that there is a column for."""
        self.rows.append(dict(row))
        say(" ".join(_shown(row[name]).rjust(width) for name, width in self._widths.items()))


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
