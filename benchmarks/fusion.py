"""What each fusion is worth on real data, and whether a fused start spares joint epochs: the README's table on fusion.

Every fusion of the package at its defaults, with hard sharing and equal weights, straight after fusing and after 3
joint epochs; against the single-task models it starts from and against joint training from the base (fusion ``none``)
for 3, for 9, and for as many epochs as a single-task model and 3 joint ones together. The claim put to the test: fuse,
then a short joint training, reaches the joint-from-base result in a third of its epochs. Sets, seeds, models and
single-task models are those of ``results.py``, which says where the data comes from.

    python benchmarks/fusion.py --quick
    python benchmarks/fusion.py --data FOLDER --json FILE [--sets A,B] [--seeds 3] [--processes 2] [--work FOLDER]

Delta_m is the mean over tasks of the relative gain over the single-task models of the same seed; best epochs, and the
fusion that the verdict speaks of, are chosen on validation; test is only reported. Joint epochs of every length have a
cosine decay of their own. What joint epochs leave out: fine-tuning N tasks on one data set passes its rows N times an
epoch, and the learned fusions make 100 updates on training rows of their own. ``weighted`` and ``layerwise`` are the
mean at their defaults: how far they are from it after joint training, where only the order of rows differs, is noise.

The file is written after every finished job, and a run with the same file goes on where the last one stopped; after a
change of the code start a new file.
"""

import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import results
from real_sets import SETS
from results import SINGLE, Job, Results, Row, spread

from mtl_search.errors import ConfigError, TrialError
from mtl_search.fusion import FUSIONS
from mtl_search.recipe import Component, Recipe, content_key
from mtl_search.results.objective import Goal, Objective
from mtl_search.training.stages import Stage, run_stage
from mtl_search.training.workspace import Workspace

SHORT, LONG = 3, 9


@dataclass(frozen=True)
class Start:
    """What joint training starts from.

    Attributes:
        name: A fusion.
        part: ``fused``, or ``base`` where nothing is fused.
    """

    name: str
    part: str


STARTS = [Start(name, "base" if kind.from_base else "fused") for name, kind in FUSIONS.items()]


def run_job(job: Job) -> Row:
    """Single-task models, or one start with all of its lengths of joint training."""
    if job.single is None:
        return results.run_job(job)
    row: Row = {"set": job.set, "seed": job.seed, "method": job.method.name, "part": job.method.part, "key": job.key}
    workspace, recipe = results.workspace_of(job.set, job.seed, job.data, job.quick)
    try:
        lengths = {epochs: trained(job, epochs, workspace, recipe) for epochs in lengths_of(job.method, recipe)}
    except (ConfigError, TrialError) as error:
        return row | {"left_out": str(error)}
    seconds = sum(each["seconds"] for each in lengths.values())
    return row | {"lengths": {str(epochs): each for epochs, each in lengths.items()}, "seconds": seconds}


def lengths_of(start: Start, recipe: Recipe) -> tuple[int, ...]:
    """Joint epochs, each trained for itself."""
    total = recipe.single_task.epochs + SHORT
    return tuple(sorted({0, SHORT, LONG, total})) if start.part == "base" else (0, SHORT)


def trained(job: Job, epochs: int, workspace: Workspace, recipe: Recipe) -> Row:
    """Delta_m on both splits after so many joint epochs."""
    assert job.single is not None
    goals = {task: Goal(**goal) for task, goal in job.single["goals"].items()}
    objective = {
        split: Objective({task: replace(goal, baseline=job.single[split][task]) for task, goal in goals.items()})
        for split in ("validation", "test")
    }
    folders = {task: stage.folder for task, stage in results.single_stages(job, workspace, recipe).items()}
    chosen = replace(recipe, fusion=Component(job.method.name), joint=replace(recipe.joint, epochs=epochs))
    folder = job.folder / content_key(asdict(job.method), epochs)
    shutil.rmtree(folder, ignore_errors=True)
    key = f"{job.method.name} {epochs}"
    stage = Stage(key, "joint", tuple(goals), chosen, str(folder), objective["validation"], folders)
    result = run_stage(stage, workspace)
    metrics = {"validation": result["metrics"], "test": results.tested(stage, workspace)}
    shutil.rmtree(folder)
    return {
        **metrics,
        **{f"{split}_delta": objective[split].improvement(values) for split, values in metrics.items()},
        "best_epoch": result["best_epoch"],
        "seconds": result["wall_seconds"],
        "fusing_seconds": result["wall_seconds"] - result["seconds"],
    }


def report(name: str, jobs: Sequence[Job], found: Results) -> Iterator[str]:
    """What is printed of one set: the table, and the verdict on the claim."""
    rows: dict[Start, list[Row]] = {}
    for job in jobs:
        rows.setdefault(job.method, []).append(found.row(job) or {"left_out": "its single-task models failed"})
    singles = rows.pop(SINGLE)
    whole = {start: each for start, each in rows.items() if not any("left_out" in row for row in each)}
    yield f"**{name}**: {caption(jobs[0], len(singles))}\n"
    yield from table(whole, singles)
    for start, each in rows.items():
        if start not in whole:
            yield f"\nLeft out: `{start.name}`: {next(row['left_out'] for row in each if 'left_out' in row)}"
    if any(start.part == "base" for start in whole) and len(whole) > 1:
        yield f"\n{verdict(name, whole)}"


def caption(job: Job, seeds: int) -> str:
    values = SETS[job.set].study(job.data, job.seed, job.quick)["space"]
    return (
        f"{SETS[job.set].about}. AdamW {values['joint']['optimizer']['adamw']['lr']:g}, cosine, "
        f"{values['single_task']['epochs']} epochs for the single-task models (batches of "
        f"{values['single_task']['batch_size']}; joint: {values['joint']['batch_size']}); every fusion at its "
        f"defaults; Δm in %, mean ± standard deviation over {seeds} seeds."
    )


def table(whole: dict[Start, list[Row]], singles: Sequence[Row]) -> Iterator[str]:
    metric = singles[0]["metric"]
    yield f"| | test Δm, fused | test Δm, {SHORT} epochs | validation Δm, {SHORT} epochs | {metric} | fusing, s |"
    yield "|---|---:|---:|---:|---:|---:|"
    alone = statistics.mean(statistics.mean(row["test"].values()) for row in singles)
    yield f"| single-task models | 0 | | | {alone:.4g} | |"
    fused = [start for start in whole if start.part == "fused"]
    for start in sorted(fused, key=lambda start: -mean(whole[start], SHORT, "validation")):
        cells = [
            shown(whole[start], 0, "test"),
            *(shown(whole[start], SHORT, split) for split in ("test", "validation")),
        ]
        cost = statistics.mean(max(each["fusing_seconds"] for each in row["lengths"].values()) for row in whole[start])
        yield f"| `{start.name}` | {' | '.join(cells)} | {metric_of(whole[start], SHORT)} | {cost:.1f} |"
    for start, each in whole.items():
        if start.part == "base":
            for epochs in each[0]["lengths"]:
                cells = [shown(each, int(epochs), split) for split in ("test", "validation")]
                label = f"from the base, {epochs} epochs"
                yield f"| {label} | | {' | '.join(cells)} | {metric_of(each, int(epochs))} | |"


def verdict(name: str, whole: dict[Start, list[Row]]) -> str:
    """The fusion that is best on validation after the short training, against the base's longer one, seed by seed."""
    base = next(each for start, each in whole.items() if start.part == "base")
    fused = {start: each for start, each in whole.items() if start.part == "fused"}
    best = max(fused, key=lambda start: mean(fused[start], SHORT, "validation"))
    texts = []
    for start in dict.fromkeys((best, next(iter(fused)))):
        gaps = {
            epochs: [
                ours - theirs
                for ours, theirs in zip(deltas(fused[start], SHORT, "test"), deltas(base, epochs, "test"), strict=True)
            ]
            for epochs in map(int, base[0]["lengths"])
            if epochs >= SHORT
        }
        says = "holds" if statistics.mean(gaps[LONG]) >= 0 else "does not hold"
        against = ", ".join("{:+.2f} ± {:.2f} ({} epochs)".format(*spread(gap), n) for n, gap in gaps.items())
        texts.append(f"for `{start.name}` it {says}: {against}")
    return (
        f"The claim on {name}, by test Δm after {SHORT} joint epochs less that of training from the base: "
        f"{'; '.join(texts)}. (The first is the best on validation.)"
    )


def deltas(rows: Sequence[Row], epochs: int, split: str) -> list[float]:
    return [row["lengths"][str(epochs)][f"{split}_delta"] for row in rows]


def mean(rows: Sequence[Row], epochs: int, split: str) -> float:
    return statistics.mean(deltas(rows, epochs, split))


def shown(rows: Sequence[Row], epochs: int, split: str) -> str:
    return "{:+.2f} ± {:.2f}".format(*spread(deltas(rows, epochs, split)))


def metric_of(rows: Sequence[Row], epochs: int) -> str:
    return f"{statistics.mean(statistics.mean(row['lengths'][str(epochs)]['test'].values()) for row in rows):.4g}"


def main() -> None:
    """Every fusion."""
    results.run_command(
        "Every fusion on real data, against joint training from the base.",
        lambda _: (SINGLE, *STARTS),
        run_job,
        report,
    )


if __name__ == "__main__":
    main()
