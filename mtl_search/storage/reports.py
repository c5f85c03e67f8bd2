"""Reports: what a stage says of each epoch and of its end, as typed values, and the one place that makes JSON of them.

``stages`` and ``loop`` make them, job queue and Tune pass them on, and search, tracking, display and reports read them.
Imports no torch: the processes that only pass results on import this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True)
class EpochReport:
    """One epoch of a stage.

    Attributes:
        epoch: Number of the epoch; 0 is the start, before any training.
        score: Value of the stage's objective; higher is better.
        best_score: Highest score of this epoch and all before it.
        metrics: Main validation metric by task, in the metric's own unit.
        validation_loss: Mean validation loss by task.
        training_loss: Mean training loss by task over the global batches; empty for epoch 0.
        weights: Mean weight of each task's loss; empty for epoch 0.
        cosines: Mean cosine between two tasks' gradients, by task and later task; empty where it was not measured.
        lr: Learning rate of the last step.
        seconds: Time of the epoch, evaluation included.
        improvement: Improvement over the baselines in percent; None where the objective has no baselines.
        group: Worker group that trained the epoch. It is part of a message only and never stored: results are the same
            on every group.
    """

    epoch: int
    score: float
    best_score: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    validation_loss: Mapping[str, float] = field(default_factory=dict)
    training_loss: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    cosines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lr: float = 0.0
    seconds: float = 0.0
    improvement: float | None = None
    group: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as they are stored."""
        compared = {} if self.improvement is None else {"improvement": self.improvement}
        return {
            "epoch": self.epoch,
            "score": self.score,
            "best_score": self.best_score,
            **compared,
            "metrics": dict(self.metrics),
            "validation_loss": dict(self.validation_loss),
            "training_loss": dict(self.training_loss),
            "weights": dict(self.weights),
            "cosines": {task: dict(others) for task, others in self.cosines.items()},
            "lr": self.lr,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of ``to_dict``; a field that an earlier version did not write has its default."""
        return cls(**_known(cls, data))


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage came to.

    Attributes:
        key: Content key of the stage.
        kind: Kind of the stage.
        tasks: Names of the tasks trained.
        metrics: Main metric by task: on validation at the best epoch, or on the split that an evaluation judged.
        best_epoch: Epoch with the highest score.
        best_score: That score; higher is better.
        history: One report per epoch.
        stopped: Whether the stage ended early because it was told to.
        affinity: Of each task to every other, where the stage measured it.
        parameters: Parameters of the model that is kept.
        multiply_adds: Multiply-add operations of one sample through it; None in a result of an early version.
        recipe: Recipe of a joint stage, plain; empty for other stages, None in a result of an early version.
        steps: Of a joint stage the main metric by task as ``base`` (with a fresh head), ``single`` (fine-tuned alone),
            ``fused`` and ``joint``.
        seconds: Time of all epochs.
        epoch_seconds: Time of the fastest epoch with training; None in a result of an early version.
        peak_mib: Most memory that a worker held; None in a result of an early version.
        wall_seconds: Time of the whole stage.
        worker_seconds: The same, summed over the workers; None in a result of an early version.
        resampled: Of an evaluation the metric by task on each draw of rows. It is not stored.
        cached: Whether the result was found in the stage's folder and not trained now. It is not stored.
    """

    key: str = ""
    kind: str = ""
    tasks: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = 0.0
    history: tuple[EpochReport, ...] = ()
    stopped: bool = False
    affinity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parameters: int = 0
    multiply_adds: int | None = None
    recipe: Mapping[str, Any] | None = None
    steps: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    epoch_seconds: float | None = None
    peak_mib: float | None = None
    wall_seconds: float = 0.0
    worker_seconds: float | None = None
    resampled: Mapping[str, list[float]] = field(default_factory=dict)
    cached: bool = field(default=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as they are stored."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NOT_STORED}
        plain |= {"tasks": list(self.tasks), "history": [report.to_dict() for report in self.history]}
        return {name: value for name, value in plain.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of ``to_dict``; a field that an earlier version did not write has its default."""
        values = _known(cls, data)
        values["tasks"] = tuple(values.get("tasks", ()))
        values["history"] = tuple(EpochReport.from_dict(report) for report in values.get("history", ()))
        return cls(**values)


_NOT_STORED = ("resampled", "cached")


def _known(cls: type[EpochReport] | type[StageResult], data: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a dataclass's fields; what a later version may have added is left out."""
    names = {each.name for each in fields(cls)}
    return {name: value for name, value in data.items() if name in names}
