"""StudyConfig: the study file as frozen, typed data.

What the first hop of the data path makes: ``reading`` turns YAML text into it and broken rules into problems;
``catalog`` binds the parameters of its variants.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from mtl_search.config.fields import Columns, Name, Section, Variant
from mtl_search.config.search_config import MEAN_IMPROVEMENT, WORST_TASK, SearchConfig, TimeSpan, seconds_of
from mtl_search.errors import NOTHING, Problem
from mtl_search.passwords import passwords_in
from mtl_search.recipe import Component, NonNegativeFloat, NonNegativeInt, PositiveInt, ProperFraction
from mtl_search.storage.paths import storage_problem
from mtl_search.task_kinds import TASK_KINDS

_RESERVED_TASK_NAMES = {MEAN_IMPROVEMENT, WORST_TASK, "improvement", "objective"}
_NO_PASSWORDS = (
    "must hold no password: it comes from the environment (PGPASSWORD or a .pgpass file, MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, AWS_ACCESS_KEY_ID, ...)"
)


def _check_storage(storage: str) -> str:
    if rule := storage_problem(storage):
        raise ValueError(rule)
    return storage


class SplitConfig(Section):
    """Parts of the training rows set aside where the source gives no such split."""

    validation: ProperFraction = 0.15
    test: ProperFraction = 0.15

    @model_validator(mode="after")
    def _leave_training_rows(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows to train on (sum below 1)")
        return self


class DataConfig(Section):
    """Where the rows come from: one ``source`` for all tasks, or several named ``sources``.

    ``stream`` leaves the inputs on disk, for tables in Parquet files that are larger than memory.
    """

    source: Variant | None = None
    sources: dict[Name, Variant] | None = Field(default=None, min_length=1)
    split: SplitConfig = SplitConfig()
    stream: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> "DataConfig":
        if (self.source is None) == (self.sources is None):
            raise ValueError("must have either 'source' (one data set) or 'sources' (a mapping of names), and not both")
        return self

    @property
    def datasets(self) -> dict[str, Component]:
        """Source by data set name; a single source is the data set ``main``."""
        return dict(self.sources) if self.sources is not None else {"main": self.source}  # type: ignore[dict-item]


Label = Annotated[int, Field(gt=-(2**64), lt=2**64)]
"""A whole number in a column, such as an id."""


KindName = Annotated[str, GetPydanticSchema(lambda _source, _handler: core_schema.literal_schema(list(TASK_KINDS)))]
"""Name of a kind of task."""


def _plain_component(component: Component) -> str | dict[str, Any]:
    """A component without parameters by its name, as losses were written before they had any."""
    return component.to_dict() if component.params else component.name


class TaskConfig(Section):
    """One learning task: what is predicted, from which data set, and how it is scored."""

    kind: KindName
    target: Columns
    data: str | None = None
    metric: Variant | None = None
    loss: Annotated[Variant, PlainSerializer(_plain_component)] | None = None
    missing: bool | Label | float | str | None = None
    positive: bool | Label | float | str | None = None
    order: Annotated[list[bool | Label | float | str], Field(min_length=2)] | None = None
    class_weight: Literal["balanced"] | dict[str, float] | None = None
    weight: str | None = None


class ActivationsConfig(Section):
    """What one worker may keep of the activations of frozen blocks, in MiB; 0 keeps nothing there."""

    device_mib: NonNegativeInt = 1024
    host_mib: NonNegativeInt = 1024
    disk_mib: NonNegativeInt = 4096


_MOST_WORKERS = 10_000


def _check_workers(raw: object) -> object:
    numbers = [
        number
        for number in (raw if isinstance(raw, list | tuple) else [raw])
        if isinstance(number, int) and not isinstance(number, bool) and number >= 1
    ]
    if any(number > _MOST_WORKERS for number in numbers):
        raise ValueError(f"must be at most {_MOST_WORKERS}")
    if numbers == [raw]:
        return raw
    if len(numbers) == 2 and numbers == list(cast("list[int]", raw)) and numbers[0] < numbers[1]:
        return tuple(numbers)
    raise ValueError("must be a whole number of at least 1, or the fewest and the most, such as [1, 4]")


Workers = Annotated[
    int | tuple[int, int],
    PlainValidator(_check_workers),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": _MOST_WORKERS},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": _MOST_WORKERS},
                    "minItems": 2,
                    "maxItems": 2,
                },
            ]
        }
    ),
]


class ResourcesConfig(Section):
    """What one worker group is made of, how many run side by side, how often a job may lose its workers."""

    workers: Workers = 1
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat = 0.0
    concurrent_trials: PositiveInt | Literal["auto"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    activations: ActivationsConfig = ActivationsConfig()
    max_retries: NonNegativeInt = 3
    report_timeout: TimeSpan = "2h"

    @property
    def fewest_workers(self) -> int:
        """Workers that a group needs at least."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most_workers(self) -> int:
        """Workers that a group has where there is room for them."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def report_seconds(self) -> float:
        """Seconds without a word of its job after which a worker group is taken to hang."""
        return seconds_of(self.report_timeout)


class TrackingConfig(Section):
    """Where MLflow writes; by default ``MLFLOW_TRACKING_URI``, or sqlite in the working folder."""

    uri: str | None = None
    experiment: str | None = None
    system_metrics: bool = False


class StudyConfig(Section):
    """One study file. ``space`` stays as written here; ``space.SearchSpace`` reads it.

    ``source_tasks`` are learned from, as a base or beside the tasks, and never count in the objective.
    """

    name: Name
    data: DataConfig
    tasks: dict[Name, TaskConfig] = Field(min_length=1)
    source_tasks: dict[Name, TaskConfig] = Field(default_factory=dict)
    backbone: Variant
    space: dict[str, Any] = Field(default_factory=dict)
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: Annotated[str, AfterValidator(_check_storage)] = "mtl_search_runs"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def _objective_problems(self) -> list[Problem]:
        """Rules between the objective and the tasks."""
        place, wanted = "search.objective", self.search.objective
        known = (MEAN_IMPROVEMENT, WORST_TASK, *self.tasks)
        if isinstance(wanted, str):
            rule = "must be an objective or a task"
            return [] if wanted in known else [Problem(place, rule, wanted, known)]
        problems = [
            Problem(place, "must be tasks where there are several", name, tuple(self.tasks))
            for name in wanted
            if name not in self.tasks
        ]
        if len(set(wanted)) < len(wanted):
            problems.append(Problem(place, "must name each task once", wanted))
        return problems

    def _weight_problems(self) -> list[Problem]:
        """Rules between the objective's weights and the tasks."""
        place, weights = "search.objective_weights", self.search.objective_weights
        if isinstance(weights, str):
            return []
        problems = [
            Problem(f"{place}.{name}", "must name a task", name, tuple(self.tasks))
            for name in weights
            if name not in self.tasks
        ]
        problems += [
            Problem(f"{place}.{name}", "must be at least 0", weight) for name, weight in weights.items() if weight < 0
        ]
        if not problems and not any(weights.get(task, 1.0) for task in self.tasks):
            return [Problem(place, "must leave a task that counts (a weight above 0)", weights)]
        return problems

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
        problems += answer_problems({name: task.kind for name, task in self.tasks.items()})
        used = {task.data or datasets[0] for task in (*self.tasks.values(), *self.source_tasks.values())}
        problems += [
            Problem(f"data.sources.{name}", "has no effect: no task uses this data set")
            for name in datasets
            if name not in used and len(datasets) > 1
        ]
        problems += [*self._objective_problems(), *self._weight_problems()]
        problems += [
            Problem(place, _NO_PASSWORDS) for place in passwords_in(self.model_dump(mode="json", warnings=False))
        ]
        resources = self.resources
        device_mib = resources.activations.device_mib
        if not resources.gpus_per_worker and device_mib != ActivationsConfig().device_mib:
            rule = "has no effect without resources.gpus_per_worker (on a CPU, host_mib counts)"
            problems.append(Problem("resources.activations.device_mib", rule, device_mib))
        if resources.gpus_per_worker % 1 and (resources.most_workers > 1 or resources.gpus_per_worker > 1):
            rule = "must be whole above 1, and where a trial has several workers: NCCL takes no two of them on one GPU"
            problems.append(Problem("resources.gpus_per_worker", rule, resources.gpus_per_worker))
        precision = resources.precision
        if precision in ("bf16", "fp16") and not self.resources.gpus_per_worker:
            problems.append(
                Problem("resources.precision", "has no effect without resources.gpus_per_worker", precision)
            )
        return problems


def answer_problems(kinds: Mapping[str, str]) -> list[Problem]:
    """Tasks whose predictions would stand in the column that another task's probabilities have.

    Args:
        kinds: The kind of every task that a model answers, by name.
    """
    columns = {probabilities_of(name): name for name, kind in kinds.items() if not TASK_KINDS[kind].answers_numbers}
    return [
        Problem(f"tasks.{name}", f"must not be named like the column of probabilities of task {columns[name]}", name)
        for name in kinds
        if name in columns
    ]


def probabilities_of(task: str) -> str:
    """The column in which a served model gives the probabilities of a task's labels."""
    return f"{task}_probabilities"


def _task_problems(place: str, name: str, task: TaskConfig, datasets: tuple[str, ...]) -> list[Problem]:
    """Rules between a task's keys, its name and the data sets."""
    problems = []
    if name in _RESERVED_TASK_NAMES:
        problems.append(Problem(place, "must not be named like an objective", name))
    if task.data is None and len(datasets) > 1:
        problems.append(Problem(f"{place}.data", "must name the task's data set", NOTHING, datasets))
    if task.data is not None and task.data not in datasets:
        problems.append(Problem(f"{place}.data", "must name a data set", task.data, datasets))
    kind = TASK_KINDS[task.kind]
    if len(task.target) > 1 and not kind.several_targets:
        rule = f"must be one column for a {task.kind} task"
        problems.append(Problem(f"{place}.target", rule, task.target))
    elif len(set(task.target)) < len(task.target):
        problems.append(Problem(f"{place}.target", "must name each column once", task.target))
    for key, taken in (("positive", "has_positive"), ("order", "has_order"), ("class_weight", "has_classes")):
        value = getattr(task, key)
        if value is not None and not getattr(kind, taken):
            takers = " and ".join(name for name, other in TASK_KINDS.items() if getattr(other, taken))
            rule = f"has no effect on a {task.kind} task ({takers} tasks only)"
            problems.append(Problem(f"{place}.{key}", rule, value))
    return problems
