"""Whether a study's answer holds: its verdict against the truth, which plain PyTorch loops find without the package.

Every study here sets the trap that users set: ``single_task`` is fixed at a modest schedule, ``joint`` is searched.
What a better schedule alone brings then looks like the gain of sharing. On each set three figures are printed,
improvements in percent on the same validation rows:

- ``old``: the winner over the default recipe's single-task models, which is what such a study used to say;
- ``new``: the verdict with its 95 % interval, over the best single-task models known (tuned ones and controls);
- ``truth``: the winner's recipe trained on ten seeds by a plain loop, over single-task models trained by a plain loop
  whose schedule was tuned over the same space, task by task, with as many epochs in all.

``covered`` says whether the interval of ``new`` holds ``truth``. Sets: ``digits`` (comes with scikit-learn; a digit
from the upper half of its image, and whether it has a loop, with few labels), ``tox21`` and ``multi_fashion_and_mnist``
(read from ``--data FOLDER``; no part of this project).

    python benchmarks/fair.py --quick [--json FILE]
    python benchmarks/fair.py --data FOLDER [--json FILE] [--sets A,B] [--seeds 10] [--trials 20]
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import write_figures
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

Columns = dict[str, np.ndarray]
CHOOSING_SEEDS = 3
"""On which the plain loops choose a schedule for each task; none of them counts."""


@dataclass(frozen=True)
class Plan:
    """One set and the study on it.

    Attributes:
        rows: Folder of the data -> split to columns; missing labels are NaN.
        tasks: Kind of each task: ``classification``, judged by accuracy, or ``binary``, judged by the area under the
            ROC curve.
        width: Of the blocks of a multi-layer perceptron with layer norm; 0 for LeNet.
        single: Epochs of fine-tuning, at a rate of 3e-4.
        joint: Epochs of joint training.
        batch: Rows of a step.
        rates: Learning rates that joint training may have; ``decays``: weight decays.
    """

    rows: Callable[[Path], dict[str, Columns]]
    tasks: Mapping[str, str]
    width: int = 64
    single: int = 8
    joint: int = 8
    batch: int = 64
    rates: tuple[float, float] = (3e-4, 1e-2)
    decays: tuple[float, float] = (1e-3, 0.3)


@dataclass(frozen=True)
class Schedule:
    """AdamW with a cosine from its rate to zero."""

    epochs: int
    rate: float
    decay: float


@dataclass
class Trained:
    """What a loop leaves: parameters of its best epoch on validation, and the metrics there and on test."""

    state: dict[str, Tensor]
    validation: dict[str, float]
    test: dict[str, float] = field(default_factory=dict)


# The sets.


def digits(folder: Path) -> dict[str, Columns]:
    """A digit from the upper half of its image, and whether it has a loop: with labels for one row in eight."""
    del folder
    bunch, random = load_digits(), np.random.default_rng(0)
    order = random.permutation(len(bunch.target))
    parts = dict(zip(("train", "validation", "test"), np.split(order, [700, 1250]), strict=True))
    loop = np.isin(bunch.target, (0, 6, 8, 9)).astype(np.float64)
    columns = {"x": (bunch.data[:, :32] / 16).astype(np.float32), "digit": bunch.target, "loop": loop}
    found = {split: {name: values[own] for name, values in columns.items()} for split, own in parts.items()}
    found["train"]["loop"][random.random(700) > 0.125] = np.nan
    return found


def multi_fashion_and_mnist(folder: Path) -> dict[str, Columns]:
    """A digit and a garment in one image: tasks that conflict in a small network."""
    with np.load(folder / "multi_fashion_and_mnist/data.npz") as file:
        order = np.random.default_rng(0).permutation(len(file["x_train"]))
        parts = {"train": order[:3000], "validation": order[3000:5000], "test": slice(None)}
        given = {split: "test" if split == "test" else "train" for split in parts}
        return {
            split: {
                "x": (file[f"x_{given[split]}"][own].astype(np.float32) / 255)[:, None],
                "left": file[f"y_{given[split]}"][own, 0],
                "right": file[f"y_{given[split]}"][own, 1],
            }
            for split, own in parts.items()
        }


def tox21(folder: Path) -> dict[str, Columns]:
    """Twelve assays on fingerprints of molecules, labels missing in part."""
    with np.load(folder / "tox21/data.npz") as file:
        x, y = file["x"].astype(np.float32), file["y"].astype(np.float64)
    order = np.random.default_rng(0).permutation(len(x))
    parts = dict(zip(("train", "validation", "test"), np.split(order, [4800, 6400]), strict=True))
    return {
        split: {"x": x[own], **{f"assay_{number}": y[own, number] for number in range(12)}}
        for split, own in parts.items()
    }


PLANS = {
    "digits": Plan(digits, {"digit": "classification", "loop": "binary"}),
    "multi_fashion_and_mnist": Plan(
        multi_fashion_and_mnist, {"left": "classification", "right": "classification"}, 0, 10, 8, 128
    ),
    "tox21": Plan(tox21, {f"assay_{number}": "binary" for number in range(12)}, 128, 4, 4, 128, (3e-4, 3e-3)),
}


@lru_cache(maxsize=1)
def columns_of(name: str, folder: Path) -> dict[str, Columns]:
    return PLANS[name].rows(folder)


def rows_for_study(name: str, folder: str) -> dict[str, Columns]:
    """The source that the study reads."""
    return columns_of(name, Path(folder))


# The plain loops. Nothing of the package is used from here on, down to ``truth_of``.


def mlp(inputs: int, width: int) -> nn.Sequential:
    def block(size: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(size, width), nn.LayerNorm(width), nn.GELU())

    return nn.Sequential(block(inputs), block(width))


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(320, 50), nn.ReLU()),
    )


class Net(nn.Module):
    """A trunk and a linear head for each task."""

    def __init__(self, plan: Plan, tasks: Sequence[str], columns: Columns) -> None:
        super().__init__()
        self.trunk = mlp(columns["x"].shape[1], plan.width) if plan.width else lenet()
        features = plan.width or 50
        outputs = {t: int(columns[t].max()) + 1 if plan.tasks[t] == "classification" else 1 for t in tasks}
        self.heads = nn.ModuleDict({task: nn.Linear(features, outputs[task]) for task in tasks})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(x)
        return {task: head(hidden) for task, head in self.heads.items()}


class Bench:
    """One set in memory, and the loops on it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.plan, self.columns = PLANS[name], columns_of(name, folder)
        mean, std = self.columns["train"]["x"].mean(0), self.columns["train"]["x"].std(0)
        scale = np.where(std > 0, std, 1) if self.plan.width else np.float32(1)
        middle = mean if self.plan.width else np.float32(0)
        self.x = {
            s: torch.from_numpy(((part["x"] - middle) / scale).astype(np.float32)) for s, part in self.columns.items()
        }
        self.y = {
            s: {t: torch.from_numpy(np.asarray(part[t], dtype=np.float64)) for t in self.plan.tasks}
            for s, part in self.columns.items()
        }

    def start(self, seed: int, tasks: Sequence[str]) -> Net:
        """The same trunk for all models of a seed, the same head for a task."""
        torch.manual_seed(seed)
        whole = Net(self.plan, list(self.plan.tasks), self.columns["train"])
        net = Net(self.plan, tasks, self.columns["train"])
        net.load_state_dict({name: whole.state_dict()[name] for name in net.state_dict()})
        return net

    def judge(self, net: Net, split: str) -> dict[str, float]:
        net.eval()
        with torch.no_grad():
            outputs = net(self.x[split])
        net.train()
        found = {}
        for task, output in outputs.items():
            labels = self.y[split][task]
            known = ~labels.isnan()
            if self.plan.tasks[task] == "classification":
                found[task] = float((output.argmax(1)[known] == labels[known]).float().mean())
            else:
                found[task] = float(roc_auc_score(labels[known].numpy(), output[known, 0].numpy()))
        return found

    def loss(self, task: str, output: Tensor, labels: Tensor) -> Tensor:
        known = ~labels.isnan()
        if not known.any():
            return output.sum() * 0
        if self.plan.tasks[task] == "classification":
            return functional.cross_entropy(output[known], labels[known].long())
        return functional.binary_cross_entropy_with_logits(output[known, 0], labels[known].float())

    def train(self, net: Net, schedule: Schedule, score: Callable[[dict[str, float]], float], seed: int) -> Trained:
        """Train on the sum of the losses; the best epoch on validation counts, the start among them."""
        torch.manual_seed(seed)
        optimizer = torch.optim.AdamW(net.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
        rows, batch = len(self.x["train"]), self.plan.batch
        steps = schedule.epochs * (rows // batch)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        best = Trained(deepcopy(net.state_dict()), self.judge(net, "validation"))
        for _ in range(schedule.epochs):
            order = torch.randperm(rows)
            for step in range(rows // batch):
                own = order[step * batch : (step + 1) * batch]
                outputs = net(self.x["train"][own])
                losses = [self.loss(task, output, self.y["train"][task][own]) for task, output in outputs.items()]
                optimizer.zero_grad()
                torch.stack(losses).sum().backward()
                optimizer.step()
                cosine.step()
            metrics = self.judge(net, "validation")
            if score(metrics) > score(best.validation):
                best = Trained(deepcopy(net.state_dict()), metrics)
        net.load_state_dict(best.state)
        best.test = self.judge(net, "test")
        return best

    @property
    def first(self) -> Schedule:
        return Schedule(self.plan.single, 3e-4, 0.01)

    def alone(self, task: str, seed: int, after: Schedule | None, *, from_base: bool = False) -> Trained:
        """A single-task model: fine-tuned, fine-tuned and trained on, or trained from the base alone."""
        net, own = self.start(seed, [task]), lambda metrics: metrics[task]
        if from_base:
            assert after is not None
            longer = Schedule(self.plan.single + after.epochs, after.rate, after.decay)
            return self.train(net, longer, own, seed)
        trained = self.train(net, self.first, own, seed)
        return trained if after is None else self.train(net, after, own, seed + 1000)

    def joint(self, seed: int, schedule: Schedule, over: Mapping[str, float]) -> Trained:
        """Fine-tune every task, average the trunks, train on all tasks."""
        singles = {task: self.alone(task, seed, None) for task in self.plan.tasks}
        net = self.start(seed, list(self.plan.tasks))
        state = net.state_dict()
        for name in state:
            if name.startswith("trunk."):
                state[name] = torch.stack([single.state[name] for single in singles.values()]).mean(0)
            else:
                state[name] = singles[name.split(".")[1]].state[name]
        net.load_state_dict(state)
        return self.train(net, schedule, lambda metrics: improvement(metrics, over), seed + 2000)


def improvement(metrics: Mapping[str, float], over: Mapping[str, float]) -> float:
    """Mean relative gain over tasks in percent; both metrics are scores."""
    return float(np.mean([100 * (metrics[task] - over[task]) / over[task] for task in over]))


Way = tuple[Schedule | None, bool]


def _alone(name: str, folder: Path, job: tuple[str, int, Way]) -> tuple[dict[str, float], dict[str, float]]:
    torch.set_num_threads(1)
    task, seed, (after, from_base) = job
    trained = Bench(name, folder).alone(task, seed, after, from_base=from_base)
    return trained.validation, trained.test


def _joint(
    name: str, folder: Path, job: tuple[int, Schedule, dict[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    torch.set_num_threads(1)
    trained = Bench(name, folder).joint(*job)
    return trained.validation, trained.test


def truth_of(name: str, folder: Path, winner: Schedule, seeds: int, grid: int, processes: int) -> dict[str, Any]:
    """The winner's recipe over the best single-task models, by plain loops.

    Args:
        name: Of the set.
        folder: Of the data.
        winner: Its joint schedule.
        seeds: That count.
        grid: Learning rates and weight decays of the schedules that single-task models are tuned over.
        processes: Side by side.
    """
    plan = PLANS[name]
    rates, decays = np.geomspace(*plan.rates, grid), np.geomspace(*plan.decays, max(grid // 2, 1))
    schedules = [winner, *(Schedule(plan.joint, float(r), float(d)) for r, d in itertools.product(rates, decays))]
    ways: list[Way] = [(None, False), *((each, form) for each in schedules for form in (False, True))]
    choosing, counting = range(500, 500 + CHOOSING_SEEDS), range(seeds)
    with ProcessPoolExecutor(processes) as pool:
        jobs = [(task, seed, way) for task in plan.tasks for way in ways for seed in choosing]
        tried = dict(zip(jobs, pool.map(partial(_alone, name, folder), jobs), strict=True))
        means = {(t, way): np.mean([tried[t, s, way][0][t] for s in choosing]) for t in plan.tasks for way in ways}
        best = {task: max(ways, key=lambda way, task=task: means[task, way]) for task in plan.tasks}
        over = {task: float(means[task, ways[0]]) for task in plan.tasks}
        jobs = [(task, seed, best[task]) for task in plan.tasks for seed in counting]
        alone = dict(zip(jobs, pool.map(partial(_alone, name, folder), jobs), strict=True))
        joint = list(pool.map(partial(_joint, name, folder), [(seed, winner, over) for seed in counting]))
    found = {}
    for place, split in enumerate(("validation", "test")):
        single = {t: float(np.mean([alone[t, s, best[t]][place][t] for s in counting])) for t in plan.tasks}
        runs = [improvement(run[place], single) for run in joint]
        found[split] = float(np.mean(runs))
        found[f"{split}_std"] = float(np.std(runs, ddof=1)) if seeds > 1 else 0.0
    first = {t: float(np.mean([tried[t, s, ways[0]][0][t] for s in choosing])) for t in plan.tasks}
    found["over_first"] = float(np.mean([improvement(run[0], first) for run in joint]))
    return found


# The study.


def verdict_of(name: str, folder: Path, trials: int, tune: int, storage: Path) -> Any:
    """The outcome of a study that fixes ``single_task`` and searches ``joint``."""
    import mtl_search

    plan = PLANS[name]
    source = {"function": "fair:rows_for_study", "params": {"name": name, "folder": str(folder)}, "inputs": ["x"]}
    metric = {"classification": "accuracy", "binary": "auroc"}
    optimizer = {"lr": {"float": [*plan.rates], "log": True}, "weight_decay": {"float": [*plan.decays], "log": True}}
    backbone = {"mlp": {"width": plan.width, "depth": 2}} if plan.width else {"python": {"function": "fair:blocks"}}
    study = mtl_search.run_study(
        {
            "name": name,
            "data": {"source": {"python": source}},
            "tasks": {t: {"kind": kind, "target": t, "metric": metric[kind]} for t, kind in plan.tasks.items()},
            "backbone": backbone,
            "space": {
                "single_task": {"epochs": plan.single, "batch_size": plan.batch, "optimizer": {"adamw": {"lr": 3e-4}}},
                "joint": {"epochs": plan.joint, "batch_size": plan.batch, "optimizer": {"adamw": optimizer}},
            },
            "search": {"trials": trials, "baseline": {"tune": tune}, "objective_weights": "equal"},
            "storage": str(storage),
            "tracking": {"uri": f"sqlite:///{storage / 'mlflow.db'}"},
        },
        verbose=False,
    )
    return study.outcome


def blocks(input_shape: tuple[int, ...]) -> list[nn.Module]:
    """LeNet as the study takes it."""
    del input_shape
    return list(lenet().children())


def compare(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as storage:
        outcome = verdict_of(name, folder, options.trials, options.tune, Path(storage))
    studied = time.monotonic() - started
    joint = outcome.recipe["joint"]
    optimizer = joint["optimizer"]["adamw"]
    winner = Schedule(joint["epochs"], optimizer["lr"], optimizer["weight_decay"])
    truth = truth_of(name, folder, winner, options.seeds, options.grid, options.processes)
    new = outcome.repeated
    old = new.mean if outcome.first_improvement is None else outcome.first_improvement
    return {
        "old": old,
        "verdict": [new.low, new.mean, new.high],
        "verdict_on_test": [outcome.repeated_test.low, outcome.repeated_test.mean, outcome.repeated_test.high],
        "truth": truth["validation"],
        "truth_on_test": truth["test"],
        "truth_over_default_singles": truth["over_first"],
        "covered": bool(new.low <= truth["validation"] <= new.high),
        "covered_on_test": bool(outcome.repeated_test.low <= truth["test"] <= outcome.repeated_test.high),
        "claims_a_gain": bool(new.low > 0),
        "alarms": list(outcome.worse),
        "study_seconds": studied,
        "truth_seconds": time.monotonic() - started - studied,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits alone, three seeds, few trials")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(PLANS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--tune", type=int, default=8)
    parser.add_argument("--grid", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.quick:
        options.sets, options.seeds, options.trials, options.tune, options.grid = ["digits"], 3, 4, 2, 2
    found: dict[str, dict[str, Any]] = {"verdict": {}, "truth": {}, "covered": {}, "details": {}}
    for name in options.sets:
        row = compare(name, options.data.resolve(), options)
        for key in ("verdict", "truth", "covered"):
            found[key][name] = row[key]
        found["details"][name] = row
        for split, verdict, truth, covered in (
            ("validation", row["verdict"], row["truth"], row["covered"]),
            ("test", row["verdict_on_test"], row["truth_on_test"], row["covered_on_test"]),
        ):
            low, mean, high = verdict
            old = f"old {row['old']:+.2f} %, " if split == "validation" else ""
            held = "covered" if covered else "NOT covered"
            sys.stdout.write(
                f"{name} on {split}: {old}new {mean:+.2f} % [{low:+.2f}, {high:+.2f}], truth {truth:+.2f} %, {held}\n"
            )
        write_figures(options.json, found)


if __name__ == "__main__":
    main()
