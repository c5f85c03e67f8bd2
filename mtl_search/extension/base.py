"""Extension: the base class of all ways to add tasks to a trained model, and the ground that they train on.

The ``extend`` section of a file names one; `command` builds the grown model and hands it over.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from mtl_search.data.study_data import StudyData
from mtl_search.errors import NOTHING, ConfigError, Problem
from mtl_search.models.branching import Blueprint, TaskBranch, can_branch
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import NonNegativeInt, Schedule
from mtl_search.training.control import Control

Controls = Callable[[str], Control]
"""Who listens to a training stage of a certain name."""


@dataclass(frozen=True)
class ExtensionData:
    """What an extension trains on.

    Attributes:
        data: New tasks' rows; old tasks' where there are labels to judge them by.
        new: Names of the new tasks.
        schedule: Of the stage that the file describes.
        seed: Of everything that is drawn.
        world: This process and its device.
        folder: Where stages keep checkpoints.
        controls: Who listens.
    """

    data: StudyData
    new: tuple[str, ...]
    schedule: Schedule
    seed: int
    world: DistributedContext
    folder: Path
    controls: Controls


class Extension(ABC):
    """A way to add tasks to a trained model; the constructor's signature is its schema in the file.

    A new task gets a head, and follows the way of an old task through the blocks: all of them, or the first ``depth``
    of them, with its own copies of the rest that start as the old task's.

    Attributes:
        keeps: Whether the predictions of the old tasks stay as they are, bit for bit.
        usual: What the schedule is where the file does not say; a few new labels are what most people have.
    """

    keeps: ClassVar[bool]
    usual: ClassVar[Mapping[str, Any]]

    def __init__(self, like: str | dict[str, str] | None, depth: NonNegativeInt | None) -> None:
        self.like = like
        self.depth = depth

    @final
    def task_branches(self, model: MultiTaskModel, new: Sequence[str], place: str) -> tuple[TaskBranch, ...]:
        """Where each new task joins the model.

        Args:
            model: The trained model.
            new: Names of the new tasks.
            place: Key path of this variant, for errors.

        Raises:
            ConfigError: The model has no such task or depth, or its tasks part and none is named.
        """
        old = tuple(task.name for task in model.tasks)
        problems: list[Problem] = []
        blocks = model.plan.blocks
        depth = blocks if self.depth is None else self.depth
        if depth > blocks:
            problems.append(Problem(f"{place}.depth", f"must be at most the model's {blocks} blocks", depth))
        elif depth < blocks and not can_branch(model):
            rule = "must be left out: the sharing of this model wires its blocks so that no copy can branch off"
            problems.append(Problem(f"{place}.depth", rule, depth))
        named = self.like if isinstance(self.like, dict) else dict.fromkeys(new, self.like)
        problems += [
            Problem(f"{place}.like.{task}", "must be a new task", task, tuple(new)) for task in named if task not in new
        ]
        one_way = can_branch(model) and model.plan.shared_depth == blocks
        for task in new:
            chosen = named.get(task)
            if chosen is None and not one_way and len(old) > 1:
                rule = "must name the old task whose way through the blocks a new one follows, since they part"
                problems.append(Problem(f"{place}.like", rule, NOTHING, old))
            elif chosen is not None and chosen not in old:
                problems.append(Problem(f"{place}.like", "must name a task of the model", chosen, old))
        if problems:
            raise ConfigError(problems)
        return tuple(TaskBranch(task, named.get(task) or old[0], depth) for task in new)

    @abstractmethod
    def train(
        self, model: MultiTaskModel, old: MultiTaskModel, grown: Blueprint, extension_data: ExtensionData
    ) -> dict[str, int]:
        """Train a model that has just grown, in place.

        Args:
            model: On the ground's device; old parameters as trained, own copies as those of the task they are like,
                heads drawn.
            old: The model before, on the same device.
            grown: What ``model`` is built from.
            extension_data: Data and schedule.

        Returns:
            By new task the epoch that the parameters are of.

        Raises:
            TrialError: Training diverged.
        """
