"""What weightings and sharings come to on real data: the tables of the README's results.

Every method of the package at its defaults: all weightings with hard sharing, all sharings with equal weights, and the
single-task models that they start from and are held against. Sets that are read from ``--data FOLDER`` (no part of this
project):

- ``multi_fashion_and_mnist``: a digit and a garment in one image, two tasks that conflict (``data.npz``)
- ``fdu_mtl``: sentiment of reviews in 16 domains, a data set per task (``reviews.parquet``)
- ``tox21`` (``data.npz``), ``school`` (``school.npz``): many tasks. Hard sharing with equal weights and with
  ``uncertainty`` only, and how a step's time grows with the number of tasks

and two that come with scikit-learn: ``two_digits``, two handwritten digits overlaid, and ``digit_pairs``, a data set
per task. With ``--quick`` models train so shortly that the figures say nothing: it shows that all of it runs.

    python benchmarks/results.py --quick
    python benchmarks/results.py --data FOLDER --json FILE [--sets A,B] [--seeds 3] [--processes 2] [--work FOLDER]

A seed decides initial parameters, the order of rows, and which rows train and validate. Delta_m is the mean over tasks
of the relative gain over the single-task models of the same seed. Which methods are the best, and every best epoch, is
decided on validation; test is only reported. Joint models start from the fused single-task models and so have been
trained longer: ``none``, where nothing is shared, says what that alone is worth, and "from the base" is equal weights
without it.

The file is written after every finished job, and a run with the same file goes on where the last one stopped. A row
counts as long as its settings are the same; after a change of the code start a new file. Runs of different sets may
share a file. Single-task models are kept in ``--work`` (by default beside the file, and removed at the end). Seconds
are those of one thread, with as many processes beside it as were asked for.
"""

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from real_sets import QUICK_SETS, README_SETS, SETS

from mtl_search.data.study_data import load_data
from mtl_search.errors import ConfigError, Problem, TrialError
from mtl_search.models.distributed import DistributedContext, use_threads
from mtl_search.models.sharing import SHARINGS
from mtl_search.models.sharing.resolve_affinity import resolve_affinity
from mtl_search.recipe import Component, Recipe, content_key
from mtl_search.results.objective import Goal, Objective
from mtl_search.search.grouping import group_tasks
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import Stage, evaluation_of, is_finished, run_stage
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.transfer import OPTIMIZERS
from mtl_search.validation.study_file import load_study
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

Row = dict[str, Any]
HARD, FIXED, MANY_TASKS = next(iter(SHARINGS)), next(iter(WEIGHTINGS)), "uncertainty"
BEST_WEIGHTINGS = 5
TIMED_EPOCHS = 3
PERCENT = ("accuracy", "auroc")


@dataclass(frozen=True)
class Method:
    """One line of a table.

    Attributes:
        name: Its name there.
        part: ``single``, ``equal``, ``base``, ``none``, ``weighting`` or ``sharing``.
        sharing: Variant, with its defaults.
        weighting: Variant, with its defaults.
    """

    name: str
    part: str
    sharing: str = HARD
    weighting: str = FIXED


SINGLE = Method("single-task models", "single")
EQUAL = Method("equal weights, hard sharing", "equal")
BASE = Method("equal weights, hard sharing, from the base", "base")
SHARED = [Method(f"`{name}` sharing", "none" if name == "none" else "sharing", name) for name in SHARINGS]
WEIGHTED = [Method(f"`{name}`", "weighting", weighting=name) for name in WEIGHTINGS]
# Those that take longest first, so that no process is left with one of them at the end.
ALL = [SINGLE, *SHARED[:0:-1], *WEIGHTED[:0:-1], BASE, EQUAL]
FEW = [SINGLE, EQUAL, *(method for method in WEIGHTED if method.weighting == MANY_TASKS)]


@dataclass(frozen=True)
class Job:
    """What one process does at a time.

    Attributes:
        set: Name of the set.
        seed: The study's.
        method: What is trained.
        data: Folder with the data.
        work: Folder for models.
        quick: Whether sizes are small.
        single: Row of the single-task models, for all other methods.
    """

    set: str
    seed: int
    method: Method
    data: Path
    work: Path
    quick: bool
    single: Row | None = None

    @property
    def key(self) -> str:
        """The settings by their content."""
        return content_key(SETS[self.set].study(self.data, self.seed, self.quick), asdict(self.method))

    @property
    def folder(self) -> Path:
        """Where the models of this set and seed lie."""
        return self.work / replace(self, method=SINGLE).key


@lru_cache(maxsize=2)
def workspace_of(name: str, seed: int, data: Path, quick: bool) -> tuple[Workspace, Recipe]:
    """A set in memory, and its default recipe."""
    study = load_study(SETS[name].study(data, seed, quick))
    config = study.config
    loaded = load_data(config.data, config.tasks, seed)
    workload = Workload.prepare(loaded, config.backbone, seed, "fp32")
    return Workspace(workload, DistributedContext()), study.space.default().recipe


def start_process() -> None:
    """One thread, and no notes on rows that do not fill a batch."""
    use_threads(1)
    logging.disable(logging.WARNING)


def run_job(job: Job) -> Row:
    """Train and judge one method: its row, or one that says why there is none."""
    row: Row = {"set": job.set, "seed": job.seed, "method": job.method.name, "part": job.method.part, "key": job.key}
    workspace, recipe = workspace_of(job.set, job.seed, job.data, job.quick)
    try:
        found = joint_model(job, workspace, recipe) if job.single else single_models(job, workspace, recipe)
    except (ConfigError, TrialError) as error:
        found = {"left_out": str(error)}
    return row | found


def single_models(job: Job, workspace: Workspace, recipe: Recipe) -> Row:
    stages = single_stages(job, workspace, recipe)
    results = {task: is_finished(stage) or run_stage(stage, workspace) for task, stage in stages.items()}
    return {
        "validation": {task: result["metrics"][task] for task, result in results.items()},
        "test": {task: tested(stage, workspace)[task] for task, stage in stages.items()},
        "goals": {task: asdict(stage.objective.goals[task]) for task, stage in stages.items()},
        "metric": ", ".join(dict.fromkeys(task.metric.name for task in workspace.workload.data.tasks)),
        **{name: sum(each[name] for each in results.values()) for name in ("parameters", "multiply_adds", "seconds")},
    }


def single_stages(job: Job, workspace: Workspace, recipe: Recipe) -> dict[str, Stage]:
    folder = job.folder / f"epochs-{recipe.single_task.epochs}"
    return {
        task: Stage(f"single {task}", "single_task", (task,), recipe, str(folder / task), Objective({task: goal}, task))
        for task, goal in task_goals(workspace.workload.data).items()
    }


def joint_model(job: Job, workspace: Workspace, recipe: Recipe) -> Row:
    assert job.single is not None, "single-task models come first"
    goals = {task: Goal(**goal) for task, goal in job.single["goals"].items()}
    objective = {
        split: Objective({task: replace(goal, baseline=job.single[split][task]) for task, goal in goals.items()})
        for split in ("validation", "test")
    }
    if job.method.part == "base":
        recipe = replace(recipe, single_task=replace(recipe.single_task, epochs=0))
    singles = single_stages(job, workspace, recipe)
    for single in singles.values():
        is_finished(single) or run_stage(single, workspace)
    folder = job.folder / content_key(asdict(job.method))
    recipe = replace(recipe, sharing=Component(HARD), weighting=Component(job.method.weighting))
    folders = {task: single.folder for task, single in singles.items()}
    plain = Stage(job.method.name, "joint", tuple(goals), recipe, str(folder), objective["validation"], folders)
    stage, measuring = with_sharing(plain, job.method.sharing, workspace)
    result = is_finished(stage) or run_stage(stage, workspace)
    metrics = {"validation": result["metrics"], "test": tested(stage, workspace)}
    shutil.rmtree(folder)
    return {
        **metrics,
        **{f"{split}_delta": objective[split].improvement(values) for split, values in metrics.items()},
        **{name: result[name] for name in ("best_epoch", "parameters", "multiply_adds")},
        "seconds": result["seconds"] + measuring,
        "sharing": stage.recipe.sharing.to_dict(),
    }


def with_sharing(plain: Stage, name: str, workspace: Workspace) -> tuple[Stage, float]:
    """A stage with a sharing in place of the hard one, and the seconds it took to measure what that waits for."""
    variant, groups, seconds = build(SHARINGS, Component(name)), {}, 0.0
    variant.check(workspace.workload.data.tasks)
    if variant.measure:
        if len(plain.tasks) < 3:
            raise ConfigError([Problem(name, "is hard sharing of another depth where there are two tasks")])
        folder = f"{plain.folder}/affinity"
        found = run_stage(replace(plain, key="affinity", folder=folder, affinity=variant.measure), workspace)
        groups, seconds = {variant.measure: group_tasks(plain.tasks, found["affinity"])}, found["seconds"]
    sharing = resolve_affinity(Component(name), groups)
    return replace(plain, recipe=replace(plain.recipe, sharing=sharing)), seconds


def tested(stage: Stage, workspace: Workspace) -> dict[str, float]:
    metrics: dict[str, float] = run_stage(evaluation_of(stage, "test", 0), workspace)["metrics"]
    return metrics


def seconds_per_step(name: str, count: int, weighting: str, data: Path, quick: bool) -> float:
    """Of training the first tasks of a set with hard sharing, in batches of one size; the fastest of a few epochs."""
    workspace, recipe = workspace_of(name, 0, data, quick)
    tasks = [task.name for task in workspace.workload.data.tasks[:count]]
    model = workspace.model(tasks, Component(HARD))
    optimizer = build(OPTIMIZERS, recipe.joint.optimizer).build(model.parameters())
    chosen = build(WEIGHTINGS, Component(weighting))
    step = Step(model, workspace.splits["train"], recipe.joint, chosen, optimizer, 0, workspace.world)
    taken = []
    for epoch in range(1, TIMED_EPOCHS + 1):
        started = time.perf_counter()
        step.run_epoch(epoch, lambda _: 1.0)
        taken.append((time.perf_counter() - started) / step.steps)
    return min(taken)


class Results:
    """Rows of finished jobs, in memory and in a file.

    Args:
        path: The file; None for none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        self._steps: dict[str, Row] = {}
        self._read()

    def row(self, job: Job) -> Row | None:
        return self._rows.get(job.key)

    def add(self, row: Row) -> None:
        self._rows[row["key"]] = row
        self.save()
        took = row["left_out"] if "left_out" in row else f"{row['seconds']:.1f} s"
        say(f"{row['set']}, seed {row['seed']}, {row['method']}: {took}")

    def add_step(self, row: Row) -> None:
        self._steps[content_key(row["set"], row["tasks"], row["weighting"])] = row

    def save(self) -> None:
        """All or nothing: a kill leaves the file as it was before or after; what another run put there stays."""
        if self._path is not None:
            self._read()
            kept = {"rows": self._rows, "steps": self._steps}
            new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            new.write_text(
                json.dumps({k: list(v.values()) for k, v in kept.items()}, indent=1) + "\n", encoding="utf-8"
            )
            new.replace(self._path)

    def _read(self) -> None:
        if self._path is not None and self._path.exists():
            held = json.loads(self._path.read_text(encoding="utf-8"))
            self._rows = {row["key"]: row for row in held["rows"]} | self._rows
            steps, self._steps = self._steps, {}
            for row in (*held["steps"], *steps.values()):
                self.add_step(row)


def run_all(jobs: Sequence[Job], results: Results, processes: int, run: Callable[[Job], Row]) -> None:
    """Run what is not in the results yet: single-task models first, then what is held against them."""
    singles = {(job.set, job.seed): job for job in jobs if job.method is SINGLE}
    waiting = [job for job in jobs if results.row(job) is None]
    if not waiting:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=start_process) as pool:
        # Those with a row too: their models may be gone, and the jobs after them start from these.
        first = [singles[place] for place in dict.fromkeys((job.set, job.seed) for job in waiting)]
        collect(pool, first, results, run)
        known = [(job, results.row(singles[job.set, job.seed])) for job in waiting if job.method is not SINGLE]
        collect(pool, [replace(job, single=row) for job, row in known if row and "goals" in row], results, run)


def collect(pool: ProcessPoolExecutor, jobs: Sequence[Job], results: Results, run: Callable[[Job], Row]) -> None:
    futures = [pool.submit(run, job) for job in jobs]
    try:
        for future in as_completed(futures):
            results.add(future.result())
    finally:
        for future in futures:
            future.cancel()


@dataclass(frozen=True)
class Line:
    """One method's figures over the seeds, as mean and standard deviation.

    Attributes:
        method: Which.
        validation: Delta_m there, percent.
        test: Delta_m there, percent.
        metric: Mean over tasks of the main metric on test.
        parameters: Relative to the single-task models'.
        multiply_adds: Per sample, relative to the single-task models'.
        seconds: Of training.
    """

    method: Method
    validation: tuple[float, float]
    test: tuple[float, float]
    metric: tuple[float, float]
    parameters: float
    multiply_adds: float
    seconds: float


def line_of(method: Method, rows: Sequence[Row], singles: Sequence[Row]) -> Line:
    cost = {
        name: statistics.mean(row[name] / single[name] for row, single in zip(rows, singles, strict=True))
        for name in ("parameters", "multiply_adds")
    }
    return Line(
        method,
        spread([row.get("validation_delta", 0.0) for row in rows]),
        spread([row.get("test_delta", 0.0) for row in rows]),
        spread([statistics.mean(row["test"].values()) for row in rows]),
        **cost,
        seconds=statistics.mean(row["seconds"] for row in rows),
    )


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def report(name: str, jobs: Sequence[Job], results: Results) -> Iterator[str]:
    """What is printed of one set: the table for the README, and behind it all methods."""
    rows: dict[Method, list[Row]] = {}
    for job in jobs:
        rows.setdefault(job.method, []).append(results.row(job) or {"left_out": "its single-task models failed"})
    left_out = {
        method: next(row["left_out"] for row in each if "left_out" in row)
        for method, each in rows.items()
        if any("left_out" in row for row in each)
    }
    if SINGLE in left_out:
        yield f"{name}: {left_out[SINGLE]}"
        return
    lines = [line_of(method, each, rows[SINGLE]) for method, each in rows.items() if method not in left_out]
    lines.sort(key=lambda line: -line.validation[0])
    metric = rows[SINGLE][0]["metric"]
    yield f"**{name}**: {caption(jobs[0], len(rows[SINGLE]))}\n"
    yield from markdown(chosen(lines), metric)
    weightings = [line.method for line in lines if line.method.part in ("equal", "weighting")]
    if EQUAL in weightings:
        yield f"\nOn validation, equal weights rank {weightings.index(EQUAL) + 1} of {len(weightings)} weightings."
    if len(lines) > len(chosen(lines)):
        yield f"\nAll methods on {name}, the best on validation first:\n"
        yield from markdown(lines, metric)
    yield from (f"\nLeft out: {method.name}: {reason}" for method, reason in left_out.items())


def chosen(lines: Sequence[Line]) -> list[Line]:
    """The controls, the sharing and the weightings that are best on validation."""
    controls = {line.method.part: line for line in lines if line.method.part in ("single", "none", "base", "equal")}
    best = {part: [line for line in lines if line.method.part == part] for part in ("sharing", "weighting")}
    order = [controls[part] for part in ("single", "none", "base", "equal") if part in controls]
    return [*order, *best["sharing"][:1], *best["weighting"][:BEST_WEIGHTINGS]]


def caption(job: Job, seeds: int) -> str:
    values = SETS[job.set].study(job.data, job.seed, job.quick)
    single, joint = values["space"]["single_task"], values["space"]["joint"]
    return (
        f"{SETS[job.set].about}. AdamW {joint['optimizer']['adamw']['lr']:g}, cosine, {single['epochs']} epochs for "
        f"the single-task models (batches of {single['batch_size']}), then {joint['epochs']} for the joint one "
        f"({joint['batch_size']}); "
        f"every method at its defaults; mean ± standard deviation over {seeds} seeds."
    )


def markdown(lines: Sequence[Line], metric: str) -> Iterator[str]:
    factor, unit = (100.0, ", %") if metric in PERCENT else (1.0, "")
    yield f"| | test {metric}{unit} | test Δm, % | validation Δm, % | parameters | multiply-adds | seconds |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for line in lines:
        mean, deviation = (factor * value for value in line.metric)
        deltas = ["0" if line.method is SINGLE else "{:+.2f} ± {:.2f}".format(*d) for d in (line.test, line.validation)]
        costs = [f"{100 * cost:.0f} %" for cost in (line.parameters, line.multiply_adds)]
        cells = [line.method.name, f"{mean:.2f} ± {deviation:.2f}", *deltas, *costs, f"{line.seconds:.0f}"]
        yield f"| {' | '.join(cells)} |"


def growth(name: str, data: Path, quick: bool, results: Results) -> Iterator[str]:
    """How a step's time grows with the number of tasks."""
    workspace, recipe = workspace_of(name, 0, data, quick)
    counts = [count for count in SETS[name].counts if count <= len(workspace.workload.data.tasks)]
    yield f"\nMilliseconds per step on {name}, batches of {recipe.joint.batch_size} rows for any number of tasks:\n"
    yield f"| tasks | heads grow by | `{FIXED}` | grows by | `{MANY_TASKS}` | grows by |"
    yield "|---:|---:|---:|---:|---:|---:|"
    first: dict[str, float] = {}
    for count in counts:
        cells = [str(count), f"{count / counts[0]:.1f}"]
        for weighting in (FIXED, MANY_TASKS):
            seconds = seconds_per_step(name, count, weighting, data, quick)
            results.add_step({"set": name, "tasks": count, "weighting": weighting, "seconds_per_step": seconds})
            cells += [f"{1000 * seconds:.1f}", f"{seconds / first.setdefault(weighting, seconds):.1f}"]
        yield f"| {' | '.join(cells)} |"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_command(
    about: str,
    methods: Callable[[str], Sequence[Method]],
    run: Callable[[Job], Row],
    report: Callable[[str, Sequence[Job], Results], Iterable[str]],
) -> None:
    """Read the command line, run the methods of each set as far as results are missing, report on every set."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="small sizes, on sets of scikit-learn")
    parser.add_argument("--json", type=Path, help="keep the figures in this file, and go on from what it holds")
    parser.add_argument("--data", type=Path, help="folder that holds the data sets, a folder each")
    parser.add_argument("--sets", help=f"some of {', '.join(SETS)}, with commas between")
    parser.add_argument("--seeds", type=int, help="number of seeds, 3 if not given")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="jobs side by side")
    parser.add_argument("--work", type=Path, help="folder for single-task models, kept")
    arguments = parser.parse_args()
    names = arguments.sets.split(",") if arguments.sets else list(QUICK_SETS if arguments.quick else README_SETS)
    if unknown := set(names) - set(SETS):
        parser.error(f"--sets: must be some of {', '.join(SETS)}, got {', '.join(sorted(unknown))}")
    if arguments.data is None and (lacking := [name for name in names if name not in QUICK_SETS]):
        parser.error(f"--data: must name the folder that holds {', '.join(lacking)}")
    start_process()
    data, quick = (arguments.data or Path()).resolve(), arguments.quick
    seeds = range(arguments.seeds or (2 if quick else 3))
    results = Results(arguments.json)
    with tempfile.TemporaryDirectory() as temporary:
        beside = None if arguments.json is None else arguments.json.with_suffix(".work")
        work = arguments.work or beside or Path(temporary)
        jobs = {
            name: [Job(name, seed, method, data, work, quick) for seed in seeds for method in methods(name)]
            for name in names
        }
        run_all([job for each in jobs.values() for job in each], results, arguments.processes, run)
        if beside is not None and arguments.work is None:
            for folder in {job.folder for each in jobs.values() for job in each}:
                shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # not empty: another run with this file needs it
                beside.rmdir()
    for name in names:
        say("")
        for text in report(name, jobs[name], results):
            say(text)
    results.save()


def main() -> None:
    """Weightings and sharings."""
    run_command(
        "Weightings and sharings on real data, held against single-task models.",
        lambda name: FEW if SETS[name].counts else ALL,
        run_job,
        lambda name, jobs, results: chain(
            report(name, jobs, results),
            growth(name, jobs[0].data, jobs[0].quick, results) if SETS[name].counts else (),
        ),
    )


if __name__ == "__main__":
    main()
