"""What each way to share costs: parameters and multiply-adds beside single-task models, step time beside full sharing.

Measured for four tasks on a small residual convolutional net and on a transformer, both of four blocks
(``side_by_side`` has them, and says how time is measured). By row:

- parameters, and multiply-adds of one sample seen by all tasks, also relative to four single-task models together;
- time of a training step with fixed weights, relative to ``hard`` with all blocks shared.

``adversarial`` needs a data set per task: a batch then has as many rows in all, and each task sees its own. It stands
beside ``hard`` on the same data, marked ``apart``.

    python benchmarks/structures.py [--quick] [--json FILE] [--device cpu] [--models ..]
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from figures import write_figures
from side_by_side import FEW_STEPS, MODELS, STEPS, Table, device_of, own_loop, say, time_ratio, workspace_of

from mtl_search.models.cost import count_parameters, multiply_adds
from mtl_search.recipe import Component

TASKS = 4
FULL, FIXED = Component("hard"), Component("fixed")
TOGETHER = [
    Component("hard"),
    Component("hard", {"depth": 3}),
    Component("hard", {"depth": 2}),
    Component("hard", {"depth": 1}),
    Component("none"),
    Component("tree", {"groups": [["t0", "t1"], ["t2", "t3"]], "depth": 2}),
    Component("soft"),
    Component("soft", {"form": "trace"}),
    Component("experts", {"count": 4}),
    Component("experts", {"count": 2, "private": 1}),
    Component("adapters", {"rank": 2}),
    Component("adapters", {"rank": 8}),
    Component("adapters", {"rank": 8, "depth": 2}),
    Component("cross_stitch"),
]
APART = [Component("hard"), Component("adversarial")]
QUICK = {"hard", "none", "experts", "adapters", "adversarial"}


class Prices:
    """What structures cost on one model and one kind of data.

    Args:
        model: One of ``MODELS``.
        apart: Whether each task has a data set of its own.
        steps: Of an epoch.
        device: Where.
    """

    def __init__(self, model: str, apart: bool, steps: int, device: torch.device) -> None:
        self._model, self._apart, self._device = model, apart, device
        self._workspace = workspace_of(model, TASKS, device, steps, apart)
        self._tasks = [task.name for task in self._workspace.workload.data.tasks]
        alone = [self._cost([task], None) for task in self._tasks]
        self._alone = [sum(costs) for costs in zip(*alone, strict=True)]
        self._shared = own_loop(self._workspace, FULL, FIXED)

    def row(self, sharing: Component, rounds: int, patience: float) -> dict[str, Any]:
        """What one costs."""
        parameters, operations = self._cost(self._tasks, sharing)
        loop = own_loop(self._workspace, sharing, FIXED)
        ratio, seconds = time_ratio(self._shared, loop, self._device, rounds, patience)
        settings = " ".join(f"{name}={value}" for name, value in sharing.params.items() if name != "groups")
        return {
            "model": self._model,
            "tasks": TASKS,
            "sharing": sharing.name,
            "settings": f"{settings} apart".strip() if self._apart else settings,
            "parameters": parameters,
            "parameters_ratio": parameters / self._alone[0],
            "multiply_adds": operations,
            "multiply_adds_ratio": operations / self._alone[1],
            "time_ratio": ratio,
            "step_ms": 1000 * seconds,
        }

    def _cost(self, tasks: list[str], sharing: Component | None) -> tuple[int, int]:
        model = self._workspace.model(tasks, sharing)
        return count_parameters(model), multiply_adds(model, self._workspace.workload.data.preparation.feature_shape)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every row, printed as it is found."""
    device = device_of(arguments.device)
    steps, rounds, patience = (FEW_STEPS, 3, 2.0) if arguments.quick else (STEPS, 9, 10.0)
    say(f"{TASKS} tasks on {device}; parameters and multiply-adds (per sample) relative to {TASKS} single-task models,")
    say("time of a step relative to sharing all blocks")
    columns = {"model": 13, "sharing": 12, "settings": 17, "parameters": 10, "parameters_ratio": 16}
    columns |= {"multiply_adds": 13, "multiply_adds_ratio": 19, "time_ratio": 10, "step_ms": 8}
    table = Table(columns)
    for model in arguments.models:
        for apart, sharings in ((False, TOGETHER), (True, APART)):
            chosen = list({each.name: each for each in sharings if each.name in QUICK}.values())
            prices = Prices(model, apart, steps, device)
            for sharing in chosen if arguments.quick else sharings:
                table.add(prices.row(sharing, rounds, patience))
    return {"rows": table.rows}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description="Parameters, multiply-adds and step time of every way to share.")
    parser.add_argument("--quick", action="store_true", help="some ways, under a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; one has the least noise")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    write_figures(arguments.json, measure(arguments))


if __name__ == "__main__":
    main()
