"""TrialRecord: one trial as Optuna's storage holds it, in words of this project."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from mtl_search.recipe import Recipe

INTERRUPTED = "interrupted"
"""State, and user attribute, of a trial whose driver ended before it did; its recipe is tried again on resume."""
REFUSED = "refused"
"""User attribute of a trial whose parts make no sense together: Optuna drew it, nobody trains, counts or shows it."""
_CLEARLY = 0.8
"""An epoch that takes less than this part of another's is the shorter one on any machine."""
_COPIED = (
    "best_epoch",
    "parameters",
    "multiply_adds",
    "seconds",
    "epoch_seconds",
    "worker_seconds",
    "peak_mib",
    "job",
    "duplicate_of",
    "retry_of",
)
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: As Optuna counts.
        state: ``complete``, ``pruned``, ``failed``, ``interrupted``, ``running`` or ``waiting``.
        value: Best score (complete) or the score at its rung (pruned); None elsewhere.
        recipe: What was tried; None if the trial ended before it was known.
        reason: Why it failed.
        metrics: Main validation metric by task at the best epoch (complete trials).
        steps: The way there, main validation metric by task: ``base`` with a fresh head, ``single`` (fine-tuned alone),
            ``fused``, ``joint`` (complete trials).
        best_epoch: That epoch.
        parameters: Of the model; ``multiply_adds``: of one sample through it.
        seconds: From the trial's start to its end, waiting for a worker group included.
        epoch_seconds: Time of the fastest joint epoch, which other work on the machine moves least.
        worker_seconds: Time of its joint training, summed over the workers of its group.
        peak_mib: Most memory that one of these workers held.
        job: Key of its joint stage, the name of its folder among the study's trials.
        duplicate_of: The finished trial with the same recipe, whose end this one took over.
        retry_of: The interrupted trial that this one tries again.
    """

    number: int
    state: str
    value: float | None = None
    recipe: Recipe | None = None
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    best_epoch: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds: float | None = None
    epoch_seconds: float | None = None
    worker_seconds: float | None = None
    peak_mib: float | None = None
    job: str | None = None
    duplicate_of: int | None = None
    retry_of: int | None = None

    @property
    def cost(self) -> tuple[int, float]:
        """What its model costs: parameters, then the time of an epoch."""
        return self.parameters or 0, self.epoch_seconds or 0.0

    def cheaper_than(self, other: "TrialRecord") -> bool:
        """Whether its model costs less; times of an epoch that differ by chance do not count."""
        (mine, seconds), (others, other_seconds) = self.cost, other.cost
        return mine < others or (mine == others and seconds < _CLEARLY * other_seconds)

    @classmethod
    def of(
        cls, trial: FrozenTrial, state: TrialState | None = None, value: float | None = None, *, recipe: bool = True
    ) -> "TrialRecord":
        """Read a trial of Optuna's.

        Args:
            trial: From its storage.
            state: What the trial is about to become, if not what it is.
            value: The value it is about to get.
            recipe: Whether to read its recipe too, which takes longer than the rest.
        """
        notes: Mapping[str, Any] = trial.user_attrs
        if state is None:  # with several objectives there is no one value, and the score stands in the notes
            state, value = trial.state, trial.value if len(trial.values or ()) == 1 else None
        return cls(
            number=trial.number,
            state=INTERRUPTED if INTERRUPTED in notes else _STATES[state.name],
            value=notes.get("score", value) if state.name in ("COMPLETE", "PRUNED") else None,
            recipe=Recipe.from_dict(notes["recipe"]) if recipe and "recipe" in notes else None,
            reason=str(notes.get("reason", "")),
            metrics=notes.get("metrics", {}),
            steps=notes.get("steps", {}),
            **{name: notes.get(name) for name in _COPIED},
        )


def drop_refused(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Trials without those that were refused."""
    return [trial for trial in trials if REFUSED not in trial.user_attrs]


def records_of(trials: Iterable[FrozenTrial], *, recipes: bool = True) -> list[TrialRecord]:
    """The record of each trial but of refused ones, with or without their recipes."""
    return [TrialRecord.of(trial, recipe=recipes) for trial in drop_refused(trials)]
