"""How far a study scales: worker groups side by side, and a driver that 10,000 finished trials do not slow down.

    python benchmarks/scaling.py [--quick] [--json FILE]

* ``two_group_speedup``: trials per minute with two worker groups over one, real training that only computes, measured
  in turns, medians. ``two_process_speedup`` is the same of plain PyTorch without any of this project: two processes
  over one. Two busy cores of one machine share its memory and its turbo, so this is what there is to gain.
* ``efficiency`` by number of groups: the part of the groups' time that is training, while there is work for all of
  them and Tune's processes are up: from when the first trial of every group has ended until the last trial is handed
  out. The groups sleep instead of training (``simulated_groups``), 10 epochs of 2 s; job queue, Tune, Optuna and
  tracking are real. ``start_seconds`` is the time before: Tune starts a process for each trial that runs, which takes
  some 4 s of a core and is used again for the next trial.
* ``driver_seconds_per_trial`` (CPU time of the driver's process), ``driver_wall_seconds_per_trial`` and ``driver_mib``
  (resident) by finished trials, of instant trials; after each thousand the benchmark waits until MLflow has them.
* ``conclusion_seconds``: from the last trial to the study's end: repeats, figures, report, delivery.
* ``resume_seconds``: from the start of a process that goes on with that study until its first new trial. Its simulated
  groups are there at once; real ones start torch first, for which a study waits whatever it has tried before.

What a second group lost, by CPU times, context switches and plain PyTorch beside an idle Ray:

* The recipe was bound by memory, not by the cores: parameters, gradients and AdamW's moments of an MLP of width 1024
  are 36 MiB a step, more than the cache that two cores share. Now 4 MiB.
* Each of Ray's processes wakes a hundred times a second and took the core from a worker each time. Two processes of
  plain PyTorch beside eight idle actors lost 15 % of their speed though these had 6 % of the CPU time; 11 % where Ray
  runs as a batch process, which waits for the scheduler's tick: so it does now where the study starts Ray.
* Ray's monitor of logs that nobody reads, a process group of one worker, MLflow told of every single epoch, workers
  polled twice a second. Of 200 % two workers had 177.6, now 183; of 4,100 context switches a second 2,800 are left.

What grew with the number of trials, found by cProfile and tracemalloc, and what bounds it now:

* TPE read all trials for every parameter of every proposal, and Optuna's search for the space's branches all of them
  once more: now at most 500 (``search.horizon``).
* The searcher copied Optuna's list of trials for each trial's end: now it reads one trial.
* Optuna's trials in memory took some 20 KiB each, mostly equal domains and notes: equal ones are shared, and the
  journal keeps no table of where every line begins: 6 KiB.
* Tune kept every trial with its last result and a text of its state, 40 KiB, as did its silent progress callback, and
  looked through all of them: it forgets ended ones (``search.tune_scheduler``). Its median rule looked at all results
  ever: now at 500 trials'.
* At a study's end MLflow was told of every trial whether it is the best: now of the best one.

And what going on with a long study waited for, by py-spy and wall clock:

* MLflow gave all runs of the study, 3.4 ms each: it is asked for a run when something is said of it.
* The journal (0.7 ms a trial) was read by the display, by the search and at the end: now once, while Ray starts.
* Torch's compiler was imported (2.7 s) to check a study file: weightings make their optimisers when they step.
"""

import argparse
import gc
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from figures import print_table, write_figures

from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import Callback, RunEvent, RunStarted, TrialEnded, TrialRun

os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
COMPUTED_ROWS, WIDTH, DEPTH, BATCH = 60_000, 256, 4, 256
"""Of the recipe that only computes: epochs of 1 to 2 s, and all that a step touches stays in the cores' caches."""
TURNS, TRIALS = 5, 6


def study_of(place: Path, trials: int, groups: int, epochs: int, **search: Any) -> dict[str, Any]:
    """A study file whose space branches as real ones do."""
    return {
        "name": "scaling",
        "data": {"source": {"sklearn": {"name": "wine"}}},
        "tasks": {
            "cultivar": {"kind": "classification", "target": "target"},
            "alcohol": {"kind": "regression", "target": "alcohol"},
        },
        "backbone": {"mlp": {"width": 16, "depth": 2}},
        "space": {
            "sharing": [{"hard": {"depth": {"int": [1, 2]}}}, "cross_stitch"],
            "fusion": ["mean", {"weighted": {"coefficients": {"float": [0.2, 1.0]}}}],
            "weighting": [{"fixed": {"log_ratio": {"float": [-1.0, 1.0]}}}, "uncertainty"],
            "single_task": {"epochs": 1},
            "joint": {
                "epochs": epochs,
                "optimizer": {
                    "adamw": {
                        "lr": {"float": [1e-4, 1e-1], "log": True},
                        "weight_decay": {"float": [1e-4, 0.3], "log": True},
                    }
                },
                "decay": [{"cosine": {"warmup": 0.1}}, "constant"],
            },
        },
        "search": {"trials": trials, "baseline_seeds": 2, "repeats": {"trials": 2, "runs": 2}, **search},
        "resources": {"concurrent_trials": groups},
        "tracking": {"uri": f"sqlite:///{place / 'mlflow.db'}"},
        "storage": str(place / "runs"),
    }


class Meter(Callback):
    """Notes what the driver's process spends; after every so many trials it waits until MLflow has all of them.

    Args:
        place: The study's folder.
        every: Trials.
    """

    def __init__(self, place: Path, every: int = 1000) -> None:
        self._place, self._every = place, every
        self._tracking = place / "runs" / "studies" / "scaling" / "tracking"
        self.ready = self.end = self.wave = self.last_start = self.warm = 0.0
        self.first = self.ended = self.groups = 0
        self.marks: list[dict[str, float]] = []

    def on_pool_start(self, groups: int) -> None:
        self.ready, self.groups = time.time(), groups

    def on_run(self, event: RunEvent) -> None:
        match event:
            case RunStarted(TrialRun(), _):
                self.on_trial_start()
            case TrialEnded(trial):
                self.on_trial_end(trial)

    def on_trial_start(self) -> None:
        self.last_start = time.monotonic()
        if not self.marks:
            self.mark()

    def on_trial_end(self, trial: TrialRecord) -> None:
        self.end = time.time()
        self.ended += 1
        self.first += trial.number < self.groups
        self.warm = self.warm or (time.monotonic() if self.first == self.groups else 0.0)
        if self.ended == self.groups:
            self.wave = self.end
        if self.ended % self._every == 0:
            self.await_delivery()
            self.mark()

    def mark(self) -> None:
        """Note time and memory now."""
        process = psutil.Process()
        gc.collect()
        mib = process.memory_info().rss / 2**20
        self.marks.append({"trials": self.ended, "cpu": time.process_time(), "wall": time.time(), "mib": mib})

    def await_delivery(self) -> None:
        """Wait until what was said so far is in MLflow, so that its cost falls to the trials that caused it."""
        journal, deadline = self._tracking / "events.jsonl", time.monotonic() + 600
        size = journal.stat().st_size
        while time.monotonic() < deadline:
            places = list(self._tracking.glob("delivered-*.json"))
            if places and json.loads(places[0].read_text())["offset"] >= size:
                return
            time.sleep(0.2)


def simulated(place: Path, raw: dict[str, Any], groups: int, epoch_seconds: float, meter: Meter, resume: bool) -> None:
    """Run a study whose worker groups sleep; all else is real, but for the registering of models that are not there."""
    from simulated_pool import SimulatedPool

    from mtl_search.api import launch
    from mtl_search.api.running import display_of
    from mtl_search.display.redirect_output import redirect_output
    from mtl_search.pool import ray_cluster
    from mtl_search.pool.local_ray import start_local_ray
    from mtl_search.pool.ray_cluster import Capacity, set_environment, start_ray
    from mtl_search.search import ray_runtime
    from mtl_search.validation.prepare import prepare
    from mtl_search.validation.study_file import load_study

    def with_room(resources: Any, useful: int) -> Capacity:
        """Starts Ray where the study would, as on a machine with more cores."""
        set_environment()
        # Ray starts a process for each CPU at once, for the trials; here all of them would share the driver's cores.
        os.environ["RAY_prestart_worker_first_driver"] = "0"  # noqa: SIM112  it is Ray's name
        start_local_ray(groups + 1)
        return start_ray(resources, useful)

    SimulatedPool.epoch_seconds = epoch_seconds
    ray_runtime.Pool = SimulatedPool  # type: ignore[misc]
    ray_runtime.start_ray = with_room
    launch.register = lambda *_: None  # type: ignore[assignment]
    ray_cluster.check_local_resources = lambda _: None  # this machine has fewer cores than there are groups that sleep
    prepared = prepare(load_study(raw))
    place.mkdir(parents=True, exist_ok=True)
    with redirect_output(place / "log"):
        display = display_of(prepared, io.StringIO())
        launch.run_study(prepared, [display, meter], lambda line: None, resume=resume)


def sleeping(
    place: Path, groups: int, trials: int, epochs: int, epoch_seconds: float, every: int, stopper: str
) -> dict[str, Any]:
    """A study of sleeping groups: the part of their time that is training, what the driver spends, how long it ends.

    The part counts while there is work for all of the groups.
    """
    from simulated_pool import SimulatedPool

    meter = Meter(place, every)
    raw = study_of(place, trials, groups, epochs, stopper=stopper)
    simulated(place, raw, groups, epoch_seconds, meter, resume=False)
    since, until = meter.warm, meter.last_start
    trained = sum(max(0.0, min(end, until) - max(begin, since)) for busy in SimulatedPool.busy for begin, end in busy)
    return {
        "efficiency": trained / (groups * (until - since)),
        "start_seconds": since - min(busy[0][0] for busy in SimulatedPool.busy),
        "marks": meter.marks,
        "conclusion_seconds": time.time() - meter.end,
    }


class FirstTrial(Meter):
    """Ends the process with the first new trial: what a study does after it is not to be waited for."""

    def on_trial_start(self) -> None:
        from mtl_search.pool.local_ray import stop_ray

        began = psutil.Process().create_time()
        hand_over(self._place, "resumed", {"seconds": time.time() - began, "pool_seconds": self.ready - began})
        stop_ray()
        os._exit(0)


def resumed(place: Path, groups: int, trials: int, epochs: int, stopper: str) -> dict[str, Any]:
    """The same study gone on with: seconds from the process's start to the first new trial."""
    raw = study_of(place, trials, groups, epochs, stopper=stopper)
    simulated(place, raw, groups, 0.0, FirstTrial(place), resume=True)
    raise RuntimeError("no new trial was started")


def compute_bound(place: Path, groups: int, trials: int, epochs: int) -> dict[str, Any]:
    """Trials per minute of a recipe that does nothing but compute, with real worker groups of one thread each."""
    from mtl_search.api import launch
    from mtl_search.display.redirect_output import redirect_output
    from mtl_search.validation.prepare import prepare
    from mtl_search.validation.study_file import load_study

    meter = Meter(place)
    raw = study_of(place, trials, groups, epochs, stopper="none", sampler="random")
    rows = np.random.default_rng(0).standard_normal((COMPUTED_ROWS, 64), dtype=np.float32)
    np.savez(place / "rows.npz", x=rows, largest=rows[:, :10].argmax(1), total=rows.sum(1))
    raw["data"] = {"source": {"arrays": {"path": str(place / "rows.npz")}}}
    raw["tasks"] = {
        "largest": {"kind": "classification", "target": "largest"},
        "total": {"kind": "regression", "target": "total"},
    }
    raw["backbone"] = {"mlp": {"width": WIDTH, "depth": DEPTH}}
    raw["space"] = {
        "single_task": {"epochs": 1, "batch_size": BATCH},
        "joint": {
            "epochs": epochs,
            "batch_size": BATCH,
            "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}},
        },
    }
    raw["search"]["repeats"] = {"trials": 1, "runs": 0}
    raw["search"]["baseline_seeds"] = 1
    with redirect_output(place / "log"):
        launch.run_study(prepare(load_study(raw)), [meter], lambda line: None, resume=False)
    return {"per_minute": 60 * (trials - groups) / (meter.end - meter.wave)}


def steps_per_second(until: float, seconds: float) -> float:
    """Steps of one thread on the network of ``compute_bound``, from a time on that all processes wait for."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    layers = [layer for inputs in (64, *[WIDTH] * (DEPTH - 1)) for layer in (nn.Linear(inputs, WIDTH), nn.ReLU())]
    model, rows = nn.Sequential(*layers, nn.Linear(WIDTH, 10)), torch.randn(BATCH, 64)
    optimizer, labels = torch.optim.AdamW(model.parameters()), torch.randint(10, (BATCH,))
    steps, begun = 0, 0.0
    while not begun or time.time() < until + seconds:
        if not begun and time.time() >= until:
            steps, begun = 0, time.time()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows), labels).backward()
        optimizer.step()
        steps += 1
    return steps / (time.time() - begun)


def plain(place: Path, processes: int, seconds: float) -> dict[str, Any]:
    """Steps per second of so many processes of plain PyTorch at once: what the machine's cores give to anybody."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        together = time.time() + 10  # torch is imported by then
        rates = pool.starmap(steps_per_second, [(together, seconds)] * processes, chunksize=1)
    return {"per_second": sum(rates)}


MEASURES = {
    "sleeping": sleeping,
    "resumed": resumed,
    "compute_bound": compute_bound,
    "plain": plain,
}


def hand_over(place: Path, name: str, found: dict[str, Any]) -> None:
    """Leave a measure's figures for the process that asked."""
    (place / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")


def measured(name: str, place: Path, **arguments: Any) -> dict[str, Any]:
    """One measure in a process of its own: each begins with the memory and the Ray of a new driver."""
    command = [sys.executable, __file__, "--measure", json.dumps({"name": name, "place": str(place), **arguments})]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{name} {arguments} failed: {process.stderr[-3000:]}")
    found: dict[str, Any] = json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
    return found


def spent(marks: list[dict[str, float]], what: str) -> dict[str, float]:
    """Seconds per trial between one mark and the next, by finished trials."""
    return {str(int(b["trials"])): (b[what] - a[what]) / (b["trials"] - a["trials"]) for a, b in pairwise(marks)}


def speedups(place: Path) -> dict[str, Any]:
    """What a second worker group brings, and what a second process of plain PyTorch brings, each in turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    plains: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(TURNS):
        for many in (1, 2):
            own = place / f"compute-{many}-{turn}"
            rates[many].append(measured("compute_bound", own, groups=many, trials=TRIALS, epochs=10)["per_minute"])
            plains[many].append(measured("plain", own, processes=many, seconds=10)["per_second"])
    return {
        "trials_per_minute": {str(groups): median(each) for groups, each in rates.items()},
        "two_group_speedup": median(rates[2]) / median(rates[1]),
        "two_process_speedup": median(plains[2]) / median(plains[1]),
    }


def of_one_study(place: Path, trials: int, epoch_seconds: float, every: int, **known: Any) -> dict[str, Any]:
    """What a study of sleeping groups takes of its driver, by finished trials; its end, and going on with it."""
    run = measured("sleeping", place, trials=trials, epoch_seconds=epoch_seconds, every=every, **known)
    return {
        "efficiency": {str(known["groups"]): run["efficiency"]},
        "start_seconds": {str(known["groups"]): run["start_seconds"]},
        "driver_seconds_per_trial": spent(run["marks"], "cpu"),
        "driver_wall_seconds_per_trial": spent(run["marks"], "wall"),
        "driver_mib": {str(int(mark["trials"])): mark["mib"] for mark in run["marks"][1:]},
        "conclusion_seconds": run["conclusion_seconds"],
        "resume_seconds": measured("resumed", place, trials=trials + known["groups"], **known)["seconds"],
    }


def efficiencies(place: Path) -> dict[str, Any]:
    """How well a pool is used, by its number of groups."""
    found = {}
    for groups in (2, 4, 8, 16):
        own, trials = place / f"groups-{groups}", 5 * groups
        study = {"groups": groups, "trials": trials, "epochs": 10, "stopper": "none"}
        found[str(groups)] = measured("sleeping", own, epoch_seconds=2.0, every=trials, **study)
    return {name: {groups: each[name] for groups, each in found.items()} for name in ("efficiency", "start_seconds")}


def measure_all(quick: bool) -> dict[str, Any]:
    """Every figure; quickly, those of one small study of simulated groups."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if quick:
            small = {"groups": 4, "trials": 24, "epochs": 10, "epoch_seconds": 0.1, "every": 24, "stopper": "none"}
            return of_one_study(place, **small)
        large = {"groups": 4, "trials": 10_000, "epochs": 1, "epoch_seconds": 0.0, "every": 1000, "stopper": "asha"}
        return speedups(place) | of_one_study(place / "driver", **large) | efficiencies(place)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="How far a study scales.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="simulated groups and few trials: shows that it runs, no more",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        asked = json.loads(arguments.measure)
        name, place = asked.pop("name"), Path(asked.pop("place"))
        place.mkdir(parents=True, exist_ok=True)
        hand_over(place, name, MEASURES[name](place, **asked))
        return
    figures = measure_all(arguments.quick)
    rows = {
        f"{name} {key}".strip(): value
        for name, found in figures.items()
        for key, value in (found if isinstance(found, dict) else {"": found}).items()
    }
    print_table("Scaling", rows)
    write_figures(arguments.json, figures)


if __name__ == "__main__":
    main()
