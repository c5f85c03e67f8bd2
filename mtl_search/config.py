"""StudyConfig: the study file as frozen, typed data.

What the first hop of the data path makes: ``reading`` turns YAML text into it and broken rules into problems;
``catalog`` binds the parameters of its variants.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from mtl_search.errors import NOTHING, Problem
from mtl_search.recipe import Component, NonNegativeFloat, NonNegativeInt, PositiveInt, ProperFraction

MEAN_IMPROVEMENT = "mean_improvement"
WORST_TASK = "worst_task"
JOURNAL = "journal"
_RESERVED_TASK_NAMES = {MEAN_IMPROVEMENT, WORST_TASK, "improvement", "objective"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
NAME_RULE = "must start with a letter and hold letters, digits, '_' and '-' only (64 characters at most)"


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(NAME_RULE)
    return name


def parse_component(raw: object) -> Component:
    """Read ``name`` or ``{name: {parameter: value}}``.

    Raises:
        ValueError: The value has another form.
    """
    if isinstance(raw, Component):
        return raw
    if isinstance(raw, str):
        return Component(raw)
    if isinstance(raw, Mapping) and len(raw) == 1:
        ((name, params),) = raw.items()
        if isinstance(name, str) and (params is None or isinstance(params, Mapping)):
            return Component(name, dict(params or {}))
    raise ValueError("must be a variant's name, or a mapping of one name to its parameters")


def _as_list(raw: object) -> object:
    return raw if isinstance(raw, list) else [raw]


def _check_storage(storage: str) -> str:
    if storage != JOURNAL and "://" not in storage:
        raise ValueError(f"must be '{JOURNAL}' (a file in the study's folder) or a database URL")
    return storage


Name = Annotated[str, AfterValidator(_check_name)]
Variant = Annotated[
    Component,
    PlainValidator(parse_component),
    PlainSerializer(Component.to_dict),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]}),
]
Columns = Annotated[
    list[str],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SplitConfig(_Section):
    """Parts of the training rows set aside where the source gives no such split."""

    validation: ProperFraction = 0.15
    test: ProperFraction = 0.15

    @model_validator(mode="after")
    def _leave_training_rows(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows to train on (sum below 1)")
        return self


class DataConfig(_Section):
    """Where the rows come from: one ``source`` for all tasks, or several named ``sources``."""

    source: Variant | None = None
    sources: dict[Name, Variant] | None = Field(default=None, min_length=1)
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _one_form(self) -> "DataConfig":
        if (self.source is None) == (self.sources is None):
            raise ValueError("must have either 'source' (one data set) or 'sources' (a mapping of names), and not both")
        return self

    @property
    def datasets(self) -> dict[str, Component]:
        """Source by data set name; a single source is the data set ``main``."""
        return dict(self.sources) if self.sources is not None else {"main": self.source}  # type: ignore[dict-item]


class TaskConfig(_Section):
    """One learning task: what is predicted, from which data set, and how it is scored."""

    kind: Literal["classification", "binary", "regression", "multilabel"]
    target: Columns
    data: str | None = None
    metric: Variant | None = None
    loss: str | None = None
    missing: bool | int | float | str | None = None
    positive: bool | int | float | str | None = None


class RepeatsConfig(_Section):
    """Which trials are run again over fresh seeds before one of them is called the winner; 0 runs for none."""

    trials: PositiveInt = 3
    runs: NonNegativeInt = 3


class SearchConfig(_Section):
    """How the space is searched."""

    trials: PositiveInt = 20
    baseline_seeds: PositiveInt = 3
    repeats: RepeatsConfig = RepeatsConfig()
    sampler: Variant = Component("tpe")
    stopper: Variant = Component("asha")
    objective: str = MEAN_IMPROVEMENT
    storage: Annotated[str, AfterValidator(_check_storage)] = JOURNAL


class ActivationsConfig(_Section):
    """What one worker may keep of the activations of frozen blocks, in MiB; 0 keeps nothing there."""

    device_mib: NonNegativeInt = 1024
    host_mib: NonNegativeInt = 1024
    disk_mib: NonNegativeInt = 4096


class ResourcesConfig(_Section):
    """What one worker group is made of, and how many run side by side."""

    workers: PositiveInt = 1
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat = 0.0
    concurrent_trials: PositiveInt | Literal["auto"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    activations: ActivationsConfig = ActivationsConfig()


class TrackingConfig(_Section):
    """Where MLflow writes; by default ``MLFLOW_TRACKING_URI``, or sqlite in the working folder."""

    uri: str | None = None
    experiment: str | None = None
    system_metrics: bool = False


class StudyConfig(_Section):
    """One study file. ``space`` stays as written here; ``space.SearchSpace`` reads it.

    ``source_tasks`` are learned from, as a base or beside the tasks, and never count in the objective.
    """

    name: Name
    data: DataConfig
    tasks: dict[Name, TaskConfig] = Field(min_length=1)
    source_tasks: dict[Name, TaskConfig] = {}
    backbone: Variant
    space: dict[str, Any] = Field(default_factory=dict)
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: str = "mtl_search_runs"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def cross_problems(self) -> list[Problem]:
        """Rules that tie sections together: data set names, the objective's task, reserved names."""
        datasets = tuple(self.data.datasets)
        problems = [
            problem
            for section, tasks in (("tasks", self.tasks), ("source_tasks", self.source_tasks))
            for name, task in tasks.items()
            for problem in _task_problems(f"{section}.{name}", name, task, datasets)
        ]
        problems += [
            Problem(f"source_tasks.{name}", "must not have the name of a task", name)
            for name in self.source_tasks
            if name in self.tasks
        ]
        used = {task.data or datasets[0] for task in (*self.tasks.values(), *self.source_tasks.values())}
        problems += [
            Problem(f"data.sources.{name}", "has no effect: no task uses this data set")
            for name in datasets
            if name not in used and len(datasets) > 1
        ]
        objectives = (MEAN_IMPROVEMENT, WORST_TASK, *self.tasks)
        if self.search.objective not in objectives:
            problems.append(
                Problem("search.objective", "must be an objective or a task", self.search.objective, objectives)
            )
        resources = self.resources
        device_mib = resources.activations.device_mib
        if not resources.gpus_per_worker and device_mib != ActivationsConfig().device_mib:
            rule = "has no effect without resources.gpus_per_worker (on a CPU, host_mib counts)"
            problems.append(Problem("resources.activations.device_mib", rule, device_mib))
        precision = resources.precision
        if precision in ("bf16", "fp16") and not self.resources.gpus_per_worker:
            problems.append(
                Problem("resources.precision", "has no effect without resources.gpus_per_worker", precision)
            )
        return problems


def _task_problems(place: str, name: str, task: TaskConfig, datasets: tuple[str, ...]) -> list[Problem]:
    """Rules between a task's keys, its name and the data sets."""
    problems = []
    if name in _RESERVED_TASK_NAMES:
        problems.append(Problem(place, "must not be named like an objective", name))
    if task.data is None and len(datasets) > 1:
        problems.append(Problem(f"{place}.data", "must name the task's data set", NOTHING, datasets))
    if task.data is not None and task.data not in datasets:
        problems.append(Problem(f"{place}.data", "must name a data set", task.data, datasets))
    if len(task.target) > 1 and task.kind != "multilabel":
        rule = f"must be one column for a {task.kind} task"
        problems.append(Problem(f"{place}.target", rule, task.target))
    elif len(set(task.target)) < len(task.target):
        problems.append(Problem(f"{place}.target", "must name each column once", task.target))
    if task.positive is not None and task.kind != "binary":
        rule = f"has no effect on a {task.kind} task (binary tasks only)"
        problems.append(Problem(f"{place}.positive", rule, task.positive))
    return problems
