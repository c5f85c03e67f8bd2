"""The model card: what the exported model predicts, how good it is against single-task models, and what it is not.

Written into the exported folder as README.md; its headline also describes the registered version in MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtl_search.data.task import Task
from mtl_search.export.champion import Champion
from mtl_search.export.extended import extended_limits, extended_section, many, shown, table
from mtl_search.export.parity import Differences
from mtl_search.input_kinds.encoding import parts_of
from mtl_search.results.caveats import RULE
from mtl_search.results.statistics import Estimate

_CARD = """\
# {name}: one model for {count}

{headline}

Trained and exported by mtl_search. Baselines are single-task models: the same backbone and base trained on one task
alone. Gains are relative, in percent; positive is better, whatever the metric. {rule}

## Tasks

{tasks}

## Results

{judged}

{results}

| improvement (mean gain) over single-task models | validation | test |
|---|---|---|
| fresh runs of the recipe, 95 % interval | {repeated} | {repeated_test} |
| this model's own run | {improvement} | {test_improvement} |

{worse}
{extended}
## Data

{data}

## Recipe

{recipe}

## Input

{inputs}

## Use

Serve, and send raw rows (`sample_input.json` holds some):

    pip install -r mlflow_model/requirements.txt
    mlflow models serve -m mlflow_model --env-manager local --port 5001
    curl -s localhost:5001/invocations -H 'Content-Type: application/json' -d @sample_input.json

Or in Python, without mtl_search:

    import mlflow
    model = mlflow.pyfunc.load_model("mlflow_model")
    answer = model.predict(rows)  # a pandas.DataFrame of raw columns

The answer has a column per task (the label, the labels present, or the value in the target's unit), and for tasks with
labels a column `<task>_probabilities`.
{programs}
Loading runs the code in this folder, as every MLflow model's does: load it from a place that you trust.

## Checked

Largest absolute difference to the trained model over {rows} rows (batches of 1 to 33):

{parity}

## Limits

- The table of tasks is of one training run, and validation picked the best of many: expect what the fresh runs say.
- The model knows the data described above. Rows from elsewhere, or from later, may be predicted worse without any sign.
- Probabilities are as trained; nobody calibrated them.
{limits}"""

_TESTED = "Validation chose trial and epoch; the test split was read once, for this model and its baselines."
_UNTESTED = (
    "This is not the winner of the study, but a model of its Pareto front, picked by a preference between the tasks. "
    "Validation chose it; the test split was read for the winner alone, so there are no test figures of this model."
)
_UNDEFINED = " The metric of {tasks} is not defined on the test labels, so figures on test leave it out."
_GAINS = {"validation": "gain", "test": "test_gain"}


def headline(champion: Champion) -> str:
    """The winner in one or two sentences."""
    outcome = champion.outcome
    ratio = outcome["parameters"] / max(outcome["single_parameters"], 1)
    later = ", ".join(task for extension in champion.extensions for task in extension["best_epochs"])
    added = f"Extended later by {later}; before that: " if later else ""
    singles = many(len(outcome["tasks"]), "single-task model")
    return (
        f"{added}{_worth(outcome, singles)} "
        f"{outcome['parameters']:,} parameters against {outcome['single_parameters']:,} ({ratio:.0%}). "
        f"Sharing {champion.recipe.sharing.name}, fusion {champion.recipe.fusion.name}, "
        f"weighting {champion.recipe.weighting.name}; trial {outcome['number']}, epoch {outcome['best_epoch']}."
    )


def _worth(outcome: Mapping[str, Any], singles: str) -> str:
    """How good the model is: by fresh runs of its recipe where there are any, its own run is the luckiest of many."""
    repeated, again, undefined = outcome.get("repeated"), outcome.get("repeated_test"), undefined_on_test(outcome)
    without = f" without {', '.join(undefined)}, whose metric is not defined on the test labels" if undefined else ""
    own = (
        "not measured on test" if is_untested(outcome) else f"{_percent(outcome['test_improvement'])} on test{without}"
    )
    if repeated is None:
        return (
            f"On validation {_percent(outcome['improvement'])} over {singles}, {own}; the recipe was not run again, "
            "so the figure on validation is too good on average."
        )
    found = Estimate(**repeated)
    test = "not measured on test" if again is None else f"on test {Estimate(**again)} %{without}"
    own = "" if is_untested(outcome) else f" This model itself has {own}."
    return (
        f"On validation {found} % over the best {singles} known, {test} ({many(found.runs, 'fresh run')} of the "
        f"recipe, 95 % intervals).{own}"
    )


def is_untested(outcome: Mapping[str, Any]) -> bool:
    """Whether an outcome is of another model than the winner, for which alone the test split was read."""
    return outcome["test_improvement"] is None and all(task.get("worse") is None for task in outcome["tasks"].values())


def undefined_on_test(outcome: Mapping[str, Any]) -> list[str]:
    """The winner's tasks whose metric is not defined on the test labels."""
    found = outcome["tasks"].items()
    return [] if is_untested(outcome) else [name for name, task in found if task["test_gain"] is None]


def model_card(champion: Champion, differences: Differences, allowed: Mapping[str, float], rows: int) -> str:
    """The card in Markdown.

    Args:
        champion: What was exported.
        differences: Largest absolute difference to the trained model, by file and task.
        allowed: The largest allowed, by task.
        rows: Rows compared.
    """
    outcome = champion.outcome
    parity = [
        [name, task, f"{value:.2g}", f"{allowed[task]:.2g}"]
        for name, tasks in differences.items()
        for task, value in tasks.items()
    ]
    return _CARD.format(
        name=champion.name,
        count=many(len(champion.tasks), "task"),
        headline=headline(champion),
        tasks=table(["task", "kind", "target", "predicts"], map(_task_row, champion.tasks)),
        judged=_judged(outcome),
        results=_results(outcome["tasks"]),
        rule=RULE,
        repeated=_estimate(outcome.get("repeated")),
        repeated_test=_estimate(outcome.get("repeated_test")),
        improvement=_percent(outcome["improvement"]),
        test_improvement=_percent(outcome["test_improvement"]),
        worse=_worse(outcome["tasks"]),
        extended=extended_section(champion),
        data=_data(champion.description),
        recipe=_recipe(champion),
        inputs=_inputs(champion.preparation.spec),
        programs=_programs(differences),
        rows=rows,
        parity=table(["file", "task", "difference", "allowed"], parity),
        limits=_limits(champion),
    )


def _judged(outcome: Mapping[str, Any]) -> str:
    if is_untested(outcome):
        return _UNTESTED
    undefined = ", ".join(undefined_on_test(outcome))
    return _TESTED + (_UNDEFINED.format(tasks=undefined) if undefined else "")


def _task_row(task: Task) -> list[str]:
    target = task.target if isinstance(task.target, str) else ", ".join(task.target)
    return [task.name, task.kind, target, task.behaviour.describe_answer(task)]


def _results(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    head = ["task", "metric", "validation", "single-task", "gain", "test", "single-task", "gain"]
    rows = [
        [
            name,
            f"{found['metric']} ({'higher' if found['higher_is_better'] else 'lower'} is better)",
            *(shown(found[key]) for key in ("validation", "baseline")),
            _percent(found["gain"]),
            *(shown(found[key]) for key in ("test", "test_baseline")),
            _percent(found["test_gain"]),
        ]
        for name, found in tasks.items()
    ]
    return table(head, rows)


def _worse(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    names = {split: [n for n, found in tasks.items() if (found[key] or 0) < 0] for split, key in _GAINS.items()}
    said = [f"on {split}: {', '.join(worse)}" for split, worse in names.items() if worse]
    return f"**Worse than alone** {'; '.join(said)}." if said else "No task is worse than alone."


def _data(description: Mapping[str, Any]) -> str:
    splits = list(description["rows"])
    rows: list[list[str]] = []
    for dataset in description["rows"][splits[0]]:
        rows.append([f"rows of data set {dataset}", *(f"{description['rows'][split][dataset]:,}" for split in splits)])
    for task, found in description["tasks"].items():
        rows.append([f"labels of task {task}", *(f"{found['splits'][split]['labels']:,}" for split in splits)])
    return table(["", *splits], rows)


def _recipe(champion: Champion) -> str:
    flat = champion.recipe.flat().items()
    rows = [[f"`{name}`", str(value)] for name, value in [("backbone", champion.blueprint.backbone.to_dict()), *flat]]
    return f"Blocks and the tasks that share them: `{champion.model.plan}`\n\n" + table(["part", "choice"], rows)


def _inputs(spec: Mapping[str, Any]) -> str:
    columns = [column for kind, part in parts_of(spec) for column in kind.signature(part)]
    rows = [[f"`{column.name}`", column.holds, "required" if column.required else column.gap] for column in columns]
    return table(["column", "holds", "missing values"], rows)


def _programs(differences: Differences) -> str:
    said = {
        "model.pt2": '`model.pt2` is the same model for `torch.export.load("model.pt2").module()`',
        "model.onnx": "`model.onnx` is the same model for ONNX Runtime",
    }
    there = [text for name, text in said.items() if name in differences]
    if not there:
        return ""
    return (
        f"\n{'; '.join(there)}. They take rows encoded by `input_kinds.encoding.encode` (the package lies in "
        "`mlflow_model/artifacts`) with the `inputs` of `labels.json`, and give one tensor per task (probabilities or "
        "values).\n"
    )


def _limits(champion: Champion) -> str:
    parts = parts_of(champion.preparation.spec)
    lines = [f"- {sentence}" for kind, part in parts for sentence in kind.limits(part)]
    for name, found in champion.description["tasks"].items():
        if (labels := found["splits"]["train"]["labels"]) < 1000:
            lines.append(f"- Task {name} was trained on {labels:,} labels only.")
    return "".join(f"{line}\n" for line in [*lines, *extended_limits(champion)])


def _estimate(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else f"{Estimate(**found)} %"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f} %"
