"""What a trial costs beyond its training: Ray's documented way against the warm pool.

Both run a trivial recipe (a 16-wide net, one epoch on wine's 124 rows) with two trials side by side:

(a) stock: Ray Tune starts one ``TorchTrainer`` per trial, as Ray's guide for tuning with Ray Train shows;
(b) pool: this project, tracking to MLflow (sqlite) included.

Seconds per trial are wall-clock time over trials, less the time spent in epochs, from the first trial's start to the
last one's end. Starting Ray and the pool is paid once a study and printed beside.

    python benchmarks/trial_overhead.py [--quick] [--json FILE]

Where the time goes, profiled on two cores: stock trials spend it in starting processes (a Tune actor, a Train
controller, a worker, each importing Ray and torch). In the pool what is left is Tune's event loop (one result per epoch
and one at the end, 10 to 20 ms each), Optuna's journal writes, and files of the model.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import print_table, write_figures

from mtl_search.display.redirect_output import redirect_output
from mtl_search.search.callbacks import Callback, EpochEnded, RunEvent, RunStarted, TrialEnded, TrialRun

os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
CONCURRENT = 2


def stock_worker(config: dict[str, Any]) -> None:
    """One epoch of a small net under Ray Train."""
    import ray.train
    import ray.train.torch
    import torch

    started = time.perf_counter()
    model = ray.train.torch.prepare_model(
        torch.nn.Sequential(torch.nn.Linear(13, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    x, y = torch.randn(124, 13), torch.randint(0, 3, (124,))
    for rows in torch.randperm(124).split(64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    ray.train.report({"loss": 1.0, "seconds": time.perf_counter() - started})


def stock_driver(config: dict[str, Any]) -> None:
    """A Tune trial that runs a trainer of its own."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    trainer = TorchTrainer(
        stock_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=config["storage"], callbacks=[TuneReportCallback()]),
    )
    trainer.fit()


def measure_stock(trials: int, storage: Path) -> float:
    """Seconds per trial of the documented way."""
    import ray
    from ray import tune

    ray.init(num_cpus=2 * CONCURRENT, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        tune.with_resources(stock_driver, {"cpu": 1}),
        param_space={"lr": tune.loguniform(1e-4, 1e-2), "storage": str(storage / "stock")},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=CONCURRENT),
        run_config=tune.RunConfig(storage_path=str(storage / "stock-tune"), verbose=0),
    )
    started = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - started
    training = sum(result.metrics["seconds"] for result in results)
    ray.shutdown()
    return (seconds - training / CONCURRENT) / trials


class Stopwatch(Callback):
    """Notes when a study's trials begin and end, and how long they train."""

    def __init__(self) -> None:
        self.ready = self.begin = self.end = self.training = 0.0

    def on_pool_start(self, groups: int) -> None:
        self.ready = time.perf_counter()

    def on_run(self, event: RunEvent) -> None:
        match event:
            case RunStarted(TrialRun(), _):
                self.begin = self.begin or time.perf_counter()
            case EpochEnded(TrialRun(), report):
                self.training += report.seconds
            case TrialEnded():
                self.end = time.perf_counter()


def measure_pool(trials: int, storage: Path) -> tuple[float, float]:
    """Seconds per trial of this project, and seconds until the pool was ready."""
    from mtl_search.api.launch import run_study
    from mtl_search.validation.prepare import prepare
    from mtl_search.validation.study_file import load_study

    study = load_study(
        {
            "name": "overhead",
            "data": {"source": {"sklearn": {"name": "wine"}}},
            "tasks": {
                "cultivar": {"kind": "classification", "target": "target"},
                "alcohol": {"kind": "regression", "target": "alcohol"},
            },
            "backbone": {"mlp": {"width": 16, "depth": 1}},
            "space": {
                "single_task": {"epochs": 1},
                "joint": {"epochs": 1, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}},
            },
            "search": {"trials": trials, "sampler": "random", "stopper": "none"},
            "resources": {"concurrent_trials": CONCURRENT},
            "tracking": {"uri": f"sqlite:///{storage / 'mlflow.db'}"},
            "storage": str(storage / "runs"),
        }
    )
    watch = Stopwatch()
    started = time.perf_counter()
    with redirect_output(storage / "log"):
        run_study(prepare(study), [watch], lambda line: None, resume=False)
    return (watch.end - watch.begin - watch.training / CONCURRENT) / trials, watch.ready - started


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description="Seconds per trial beyond training: stock Ray against the warm pool.")
    parser.add_argument("--quick", action="store_true", help="few trials, under a minute on a quiet machine")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with redirect_output(Path(folder) / "log"):
            stock = measure_stock(2 if arguments.quick else 8, Path(folder))
        pool, startup = measure_pool(20 if arguments.quick else 100, Path(folder))
    figures = {
        "stock_seconds_per_trial": stock,
        "pool_seconds_per_trial": pool,
        "ratio": stock / pool,
        "pool_startup_seconds": startup,
    }
    print_table("Seconds per trial beyond training, two trials side by side", figures)
    write_figures(arguments.json, figures)


if __name__ == "__main__":
    main()
