"""Studies whose truth about transfer is planted, and a pool that carries out jobs in this very process."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from mtl_search.config.search_config import EQUAL
from mtl_search.data.study_data import load_data
from mtl_search.models.distributed import DistributedContext
from mtl_search.pool.jobs import Job, JobState, Update
from mtl_search.recipe import Recipe
from mtl_search.results.objective import Objective
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.baselines import Baselines
from mtl_search.search.callbacks import Callback
from mtl_search.search.finalize import Finalizer
from mtl_search.search.grouping import TaskGroups, group_tasks, mean_cosines
from mtl_search.search.jobs import Jobs
from mtl_search.search.reliability import measure_reliability
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import is_finished, run_stage
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.validation.study_file import LoadedStudy, load_study

ROWS = 900


def copies(seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Three times the same task."""
    bunch = load_digits()
    rows = np.random.default_rng(seed).permutation(len(bunch.data))[:ROWS]
    return {"train": {"x": bunch.data[rows], **dict.fromkeys(("a", "b", "c"), bunch.target[rows])}}


def harmful(seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Two tasks that go together, and one of random numbers, each input standing there several times with others."""
    bunch, random = load_digits(), np.random.default_rng(seed)
    rows = random.permutation(len(bunch.data))[:ROWS]
    digit = bunch.target[rows]
    noise = random.normal(0, 1, ROWS)
    return {"train": {"x": bunch.data[rows], "a": digit, "b": (digit + 1) % 10, "noise": noise}}


class HerePool:
    """What a study asks of a pool, without Ray: jobs one after the other, in this process."""

    def __init__(self, workload: Workload) -> None:
        self._workspace = Workspace(workload, DistributedContext())

    def run(self, jobs: Sequence[Job], heard: Callable[[Job, Update], None] | None = None) -> list[Update]:
        updates = []
        for job in jobs:
            result = is_finished(job.payload) or run_stage(job.payload, self._workspace)
            updates.append(Update(state=JobState.DONE, result=result))
            if heard is not None:
                heard(job, updates[-1])
        return updates

    def results(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        return [update.result for update in self.run(jobs) if update.result is not None]


def study_on(function: str, seed: int, storage: Path, weight: float) -> LoadedStudy:
    names = ("a", "b", "c") if function == "copies" else ("a", "b", "noise")
    tasks = {name: {"kind": "regression" if name == "noise" else "classification", "target": name} for name in names}
    schedule = {"epochs": 8, "batch_size": 32, "optimizer": {"adamw": {"lr": 3e-3}}, "decay": "constant"}
    fixed = {"fixed": {"log_ratio": {names[1]: 0.0, names[2]: weight}}}
    source = {"python": {"function": f"planted_tasks:{function}", "params": {"seed": seed}}}
    return load_study(
        {
            "name": function,
            "data": {"source": source, "split": {"validation": 0.3, "test": 0.2}},
            "tasks": tasks,
            "backbone": {"mlp": {"width": 24, "depth": 2}},
            "space": {
                "weighting": fixed,
                "single_task": schedule,
                "joint": {**schedule, "batch_size": {"choice": [32, 48, 64], "default": 32}},
            },
            "search": {"trials": 3},
            "storage": str(storage),
            "seed": seed,
        }
    )


def concluded(study: LoadedStudy) -> tuple[Outcome, TaskGroups]:
    """The end of a study whose search tried three batch sizes; and the groups that affinity proposes."""
    config = study.config
    data = load_data(config.data, config.tasks, config.seed)
    workload = Workload.prepare(data, config.backbone, config.seed, "fp32")
    folder, pool = StudyFolder(Path(config.storage), config.name), HerePool(workload)
    folder.path.mkdir(parents=True)
    objective = Objective(task_goals(data))

    def jobs(run: int) -> Jobs:
        made = Jobs(workload, folder, run=run)
        made.objective = objective
        return made

    default, search = study.space.default().recipe, config.search
    fresh = range(search.baseline_seeds, search.baseline_seeds + search.repeats.runs)
    baselines = Baselines(jobs, objective, range(search.baseline_seeds), fresh, Callback())
    objective = baselines.train(pool, default)  # type: ignore[arg-type]
    models = {task: list(found.stages.values()) for task, found in baselines.by_task.items()}
    labels = dict.fromkeys(objective.goals, 100)
    reliability = measure_reliability(pool, objective, models, labels, EQUAL)  # type: ignore[arg-type]
    recipes = [replace(default, joint=replace(default.joint, batch_size=size)) for size in (32, 48, 64)]
    trials = [trial_of(number, recipe, jobs(0), pool) for number, recipe in enumerate(recipes)]
    results = [pool.results(jobs(0).of(recipe))[-1] for recipe in recipes]
    groups = group_tasks(tuple(config.tasks), mean_cosines(result.history for result in results))
    end = Finalizer(config, workload, folder, jobs, baselines, reliability, Callback(), groups)
    return end.reached(pool, trials), groups  # type: ignore[arg-type]


def trial_of(number: int, recipe: Recipe, jobs: Jobs, pool: HerePool) -> TrialRecord:
    *_, result = pool.results(jobs.of(recipe))
    kept = ("metrics", "steps", "best_epoch", "parameters", "multiply_adds", "epoch_seconds")
    return TrialRecord(
        number, "complete", recipe=recipe, job=result.key, **{name: getattr(result, name) for name in kept}
    )
