"""Champion: a finished model as it was trained, rebuilt from a study's folder or from an exported one.

First stop of an export: the eager model that every exported file is held against, and all that is known about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_search.data.task import Task
from mtl_search.errors import DamagedError, StudyError
from mtl_search.export.other_models import outcome_of_trial, preferred_outcome
from mtl_search.input_kinds.encoding import Encoded, encode
from mtl_search.input_kinds.preparation import Preparation
from mtl_search.models.branching import Blueprint, TaskBranch
from mtl_search.models.deployed import DeployedModel
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Recipe
from mtl_search.storage.checkpoint import MODEL_FILE, load_tensors
from mtl_search.storage.paths import StoragePath, storage_path
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.built_recipe import BuiltRecipe

Columns = dict[str, list[Any]]
"""Raw rows as JSON takes them: input column to values."""


@dataclass(frozen=True, eq=False)
class Champion:
    """The winner of a study, perhaps with tasks that were added later.

    Attributes:
        name: The study's name.
        seed: The study's seed.
        outcome: What the study found, as `search.outcome.Outcome.to_dict` wrote it; of another model than the winner
            what was measured of that one, without test figures.
        recipe: The winner's recipe.
        blueprint: What the model is built from.
        model: The trained model on the CPU, in evaluation mode.
        preparation: From encoded rows to features.
        sample: A few raw training rows.
        description: Sizes and label counts, as `StudyData.describe` gave them.
        extensions: What was added since, one record per time, as `extension.command` wrote it.
        sources: Names of tasks that the model only learned from; it does not answer them.
    """

    name: str
    seed: int
    outcome: dict[str, Any]
    recipe: Recipe
    blueprint: Blueprint
    model: MultiTaskModel
    preparation: Preparation
    sample: Columns
    description: dict[str, Any]
    extensions: tuple[Mapping[str, Any], ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """In the order of the outputs."""
        return tuple(task for task in self.blueprint.tasks if task.name not in self.sources)

    @property
    def deployed(self) -> DeployedModel:
        """Preparation, model and predictions in one module."""
        return DeployedModel(self.preparation, self.model, self.tasks)

    def encode(self, columns: Columns) -> Encoded:
        """Raw rows as the deployed model takes them."""
        return encode(columns, self.preparation.spec)

    def predict(self, columns: Columns) -> dict[str, np.ndarray]:
        """What the trained model says of raw rows.

        Returns:
            By task probabilities (n, classes), (n, labels) or (n,), or values (n,) in the target's unit.
        """
        with torch.inference_mode():
            outputs = self.deployed(*(torch.from_numpy(part) for part in self.encode(columns)))
        return {task.name: output.numpy() for task, output in zip(self.tasks, outputs, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """All but the parameters as plain JSON; nothing of it tells of the machine that trained it."""
        return {
            "name": self.name,
            "seed": self.seed,
            "backbone": self.blueprint.backbone.to_dict(),
            "blocks": self.blueprint.blocks,
            "outcome": {key: value for key, value in self.outcome.items() if key != "folder"},
            "tasks": [task.to_dict() for task in self.blueprint.tasks],
            "sources": list(self.sources),
            "datasets": list(self.blueprint.datasets),
            "preparation": self.preparation.to_dict(),
            "sample": self.sample,
            "description": self.description,
            "extensions": list(self.extensions),
        }


def champion_from_dict(plain: Mapping[str, Any], state: Mapping[str, Tensor]) -> Champion:
    """The champion that `Champion.to_dict` wrote.

    Args:
        plain: What it wrote.
        state: The trained parameters and buffers.

    Raises:
        ConfigError: The backbone is a user's own and cannot be imported.
        RuntimeError: The state is another model's.
    """
    preparation = Preparation(plain["preparation"])
    recipe = Recipe.from_dict(plain["outcome"]["recipe"])
    extensions = tuple(plain.get("extensions", ()))
    blueprint = Blueprint(
        Component.from_dict(plain["backbone"]),
        preparation.feature_shape,
        plain["blocks"],
        recipe.sharing,
        tuple(Task.from_dict(task) for task in plain["tasks"]),
        tuple(plain["datasets"]),
        tuple(TaskBranch(**growth) for extension in extensions for growth in extension["growths"]),
    )
    with torch.random.fork_rng(devices=[]):  # building draws parameters, and the caller's random state is its own
        model = blueprint.model()
    model.load_state_dict(state)
    model.requires_grad_(requires_grad=False)
    return Champion(
        plain["name"],
        plain["seed"],
        plain["outcome"],
        recipe,
        blueprint,
        model.eval(),
        preparation.eval(),
        plain["sample"],
        plain["description"],
        extensions,
        tuple(plain.get("sources", ())),
    )


def load_champion(folder: StudyFolder, prefer: Mapping[str, float] | None = None, trial: int | None = None) -> Champion:
    """Rebuild the trained model of a study that has ended.

    Args:
        folder: Where the study lies.
        prefer: Weight by task, for the model of the front that is best by them.
        trial: Number of the trial whose model it is. Without either it is the winner's.

    Raises:
        StudyError: There is no such study, it has not ended well, or files of it are missing or do not fit each other.
        ConfigError: The preference breaks a rule, see ``search.pareto.preferred``.
    """
    folder.read_config()
    outcome = folder.read_outcome()
    if outcome is None:
        raise StudyError(
            f"study {folder.name} has no winner yet: run `mtl-search search` with --resume until it has ended"
        )
    if prefer is not None:
        return _rebuilt(folder, *preferred_outcome(folder, outcome, prefer))
    if trial is not None:
        return _rebuilt(folder, *outcome_of_trial(folder, outcome, trial))
    return _rebuilt(folder, outcome)


def _rebuilt(folder: StudyFolder, outcome: dict[str, Any], file: StoragePath | None = None) -> Champion:
    """The model that an outcome tells of; its parameters from the file, or where the outcome says."""
    config = folder.read_config()
    data = folder.read_data()
    file = file or _home(folder, storage_path(outcome["folder"]), outcome["number"]) / MODEL_FILE
    known = {"name": config.name, "seed": config.seed, "backbone": config.backbone.to_dict(), "outcome": outcome}
    recipe = Recipe.from_dict(outcome["recipe"])
    parts = BuiltRecipe(recipe)
    if parts.auxiliary.trains:
        targets, sources = ([task["name"] for task in data[part]] for part in ("tasks", "source_tasks"))
        # Where the tasks make a tree, the model was kept without its source tasks.
        if not parts.sharing.plan(targets, data["blocks"], sources).tree:
            known |= {"tasks": [*data["tasks"], *data["source_tasks"]], "sources": sources}
    try:
        return champion_from_dict(data | known, load_tensors(file))
    except (RuntimeError, DamagedError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{file} does not fit the study's backbone and recipe: {reason}") from error


def _home(folder: StudyFolder, written: StoragePath, number: int) -> StoragePath:
    """Where the trained parameters lie; a storage that was moved still holds them under the trial's own name."""
    places = [written, folder.trials / written.name]
    home = next((place for place in places if (place / MODEL_FILE).exists()), None)
    if home is None:
        looked = " and ".join(str(place) for place in dict.fromkeys(places))
        raise StudyError(f"study {folder.name} lacks the model of trial {number}: no {MODEL_FILE} in {looked}")
    return home
