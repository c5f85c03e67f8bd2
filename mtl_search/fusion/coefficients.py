"""Coefficients: what each task's model counts for, as a study file gives it; shared by the fusions that weigh tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from mtl_search.errors import ConfigError, Problem


@dataclass(frozen=True)
class Coefficients:
    """A coefficient for every task.

    Attributes:
        value: One number for all tasks, or a number by task (1 for tasks not named).
        place: Key path for errors.

    Raises:
        ConfigError: One is negative or no number, or the one for all tasks is 0.
    """

    value: float | dict[str, float]
    place: str

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            if not (isfinite(self.value) and self.value >= 0):
                raise ConfigError([Problem(self.place, "must be 0 or more", self.value)])
            if not self.value:
                raise ConfigError([Problem(self.place, "must be above 0", self.value)])
        elif wrong := {task: number for task, number in self.value.items() if not (isfinite(number) and number >= 0)}:
            raise ConfigError(
                [Problem(f"{self.place}.{t}", "must be 0 or more", number) for t, number in wrong.items()]
            )

    def check(self, tasks: Sequence[str]) -> None:
        """Whether every coefficient belongs to a task of the study.

        Raises:
            ConfigError: One does not.
        """
        strangers = [task for task in self.value if task not in tasks] if isinstance(self.value, dict) else []
        if strangers:
            raise ConfigError([Problem(self.place, "must name tasks", task, tuple(tasks)) for task in strangers])

    def even(self, groups: Sequence[Sequence[str]]) -> bool:
        """Whether the tasks of each group count alike."""
        return all(len(set(self.of(tasks))) == 1 for tasks in groups)

    def of(self, tasks: Sequence[str]) -> list[float]:
        """The tasks' coefficients, summing to 1.

        Raises:
            ConfigError: All of them are 0.
        """
        numbers = [self.value.get(task, 1.0) if isinstance(self.value, dict) else self.value for task in tasks]
        whole = sum(numbers)
        if not whole:
            rule = f"must not all be 0 for tasks that share a block ({', '.join(tasks)})"
            raise ConfigError([Problem(self.place, rule)])
        return [number / whole for number in numbers]
