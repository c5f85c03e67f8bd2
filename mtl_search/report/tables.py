"""Tables of the HTML report, each with a sentence that says what it shows; and what a reader can do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

import yaml

from mtl_search.analysis.next_commands import export_command, output_option, resume_command, train_command
from mtl_search.analysis.overview import Overview
from mtl_search.display.recipe_words import recipe_words, varying_parameters
from mtl_search.passwords import without_passwords
from mtl_search.report.summary import percent
from mtl_search.report.terminal import titles_of
from mtl_search.results.outcome import TaskOutcome


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: A few words.
        sentence: What it shows.
        head: Names of the columns.
        rows: Cells, already in words.
        marked: Numbers of rows to mark.
    """

    title: str
    sentence: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Command:
    """Something to type.

    Attributes:
        why: What it does.
        line: The command.
    """

    why: str
    line: str


def tasks_of(overview: Overview) -> Table | None:
    """Every task of the winner against its single-task model."""
    outcome = overview.outcome
    if outcome is None:
        return None
    again = any(task.repeated is not None for task in outcome.tasks.values())
    interval = ("gain over fresh runs",) if again else ()
    head = ("task", "metric", "validation", "alone", "gain", *interval, "test", "alone", "gain on test")
    rows = []
    for name, task in outcome.tasks.items():
        direction = "↑" if task.higher_is_better else "↓"
        fresh = (percent(task.repeated),) if again else ()
        validation = (_number(task.validation), _number(task.baseline), percent(task.gain), *fresh)
        test = (_number(task.test), _number(task.test_baseline), percent(task.test_gain))
        rows.append((name, f"{task.metric} {direction}", *validation, *test))
    worse = frozenset(place for place, task in enumerate(outcome.tasks.values()) if task.worse)
    sentence = (
        f"The winner (trial {outcome.number}, epoch {outcome.best_epoch}) against a single-task model of each task. "
        "Gains are relative; positive is better whatever the metric's direction (arrow). The test split was read once."
        + (" Marked: worse than alone, with confidence." if worse else "")
    )
    return Table("Every task", sentence, head, tuple(rows), worse)


def baselines_of(overview: Overview) -> Table | None:
    """What the model is held against, with its spread over seeds."""
    outcome = overview.outcome
    if outcome is None:
        return None
    rows = []
    for name, task in outcome.tasks.items():
        whose = task.baseline_words or (
            "the default recipe" if task.baseline_trial is None else f"trial {task.baseline_trial}"
        )
        error = "–" if task.standard_error is None else f"{task.standard_error:.2g}"
        labels = "–" if task.labels is None else f"{task.labels:,}"
        rows.append((name, task.metric, *_spread(task), labels, error, f"{task.weight:.2g}", whose))
    sentence = (
        "The same backbone and base, trained on one task alone: the mean over seeds of the best epoch on validation, "
        "and the standard deviation between the seeds where there are several. The standard error says how far off the "
        "metric may be because of the validation rows; the weight, how much the task's gain counts in the mean."
    )
    head = ("task", "metric", "mean", "std", "seeds", "labels", "standard error", "weight", "schedule of")
    return Table("The baselines", sentence, head, tuple(rows))


def candidates_of(overview: Overview) -> Table | None:
    """Trials that were run again."""
    outcome = overview.outcome
    if outcome is None or not outcome.candidates:
        return None
    rows = tuple(
        (
            str(each.number),
            percent(each.improvement),
            percent(each.repeated),
            str(each.repeated.runs),
            f"{each.parameters:,}",
            f"{each.epoch_seconds:.2g} s",
            "winner" if each.number == outcome.number else "tied" if each.tied else "worse",
        )
        for each in outcome.candidates
    )
    sentence = (
        "The best trials of the search, run again over fresh seeds; the winner has the highest mean. A tied "
        "one cannot be told from it with 95 % confidence."
    )
    head = ("trial", "in the search", "over fresh runs", "runs", "parameters", "an epoch takes", "verdict")
    marked = frozenset(place for place, each in enumerate(outcome.candidates) if each.number == outcome.number)
    return Table("Run again", sentence, head, rows, marked)


def trials_of(overview: Overview) -> Table:
    """Every trial."""
    tasks = list(overview.config.tasks)
    few = tasks if len(tasks) <= 6 else []
    searched = varying_parameters([record.recipe for record in overview.records if record.recipe is not None])
    rows = []
    for record in overview.records:
        words = recipe_words(record.recipe, searched) if record.recipe is not None else ""
        if record.duplicate_of is not None:
            words = f"same as trial {record.duplicate_of}"
        value, metrics = overview.improvements.get(record.number), overview.metrics.get(record.number, {})
        cost = record.worker_seconds if record.worker_seconds is not None else record.seconds
        rows.append(
            (
                str(record.number),
                record.state,
                "–" if value is None else f"{value:+.3f}",
                *(_number(metrics.get(task)) for task in few),
                "–" if cost is None else f"{cost:.1f}",
                "–" if record.peak_mib is None else f"{record.peak_mib:,.0f}",
                f"{words} [{record.reason}]" if record.reason else words,
            )
        )
    sentence = (
        f"Every trial with its {overview.judged_by}, its cost in worker-seconds and the most memory (MiB) that a "
        "worker held, and what of its recipe differs between trials. One that was stopped early counts with its best "
        "epoch."
    )
    before, after = ("trial", "state", overview.judged_by), ("seconds", "MiB", "recipe")
    head = (*before, *titles_of(few, (*before, *after)), *after)
    best = None if overview.outcome is None else overview.outcome.number
    marked = frozenset(place for place, record in enumerate(overview.records) if record.number == best)
    return Table(f"All {len(rows)} trials", sentence, head, tuple(rows), marked)


def recipe_of(overview: Overview) -> str:
    """The winner's recipe in the form of a study file's ``space``; empty before the study's end."""
    outcome = overview.outcome
    return "" if outcome is None else yaml.safe_dump(dict(outcome.recipe), sort_keys=False, allow_unicode=True)


def study_file_of(overview: Overview) -> str:
    """The study file with every default, without passwords."""
    plain = without_passwords(overview.config.model_dump(mode="json"))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def commands_of(overview: Overview) -> list[Command]:
    """How to reproduce, export and serve the winner; how to go on with a study that has not ended."""
    config, name, outcome = overview.config, overview.config.name, overview.outcome
    if outcome is None:
        return [Command("Go on with the study.", resume_command(config))]
    tasks, export = list(outcome.tasks), export_command(config, outcome.recipe, f"{name}-model")
    found = [
        Command("Train the winner's recipe anew.", train_command(config, outcome.recipe)),
        Command("Write the winner for deployment, checked.", export),
    ]
    if len(tasks) > 1 and export.startswith("mtl-search"):
        line = f"mtl-search export {name} --prefer {tasks[0]}=2 --to {name}-preferred{output_option(config)}"
        found.append(Command(f"Or the model of the front that is best where {tasks[0]} counts twice.", line))
    serve = f"mlflow models serve -m {name}-model/mlflow_model --env-manager local --port 5001"
    found += [
        Command("Serve the exported model.", serve),
        Command(
            "Ask it about the rows in the export's sample.",
            "curl -s localhost:5001/invocations -H 'Content-Type: application/json' "
            f"-d @{name}-model/sample_input.json",
        ),
    ]
    return found


def _spread(task: TaskOutcome) -> tuple[str, str, str]:
    runs: Sequence[float] = task.baseline_runs
    several = len(runs) > 1
    return _number(task.baseline), _number(stdev(runs)) if several else "–", str(max(len(runs), 1))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
