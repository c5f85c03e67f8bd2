"""Champion: the winner of a study as it was trained, rebuilt from the study's folder.

First stop of an export: the eager model that every exported file is held against, and all that is known about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from mtl_search.config import StudyConfig
from mtl_search.data.encoding import Encoded, encode
from mtl_search.data.preparation import Preparation, preparation_from_dict
from mtl_search.data.task import Task
from mtl_search.errors import StudyError
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.deployed import DeployedModel
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing import SHARINGS
from mtl_search.recipe import Recipe, build
from mtl_search.search.folder import StudyFolder
from mtl_search.training.checkpoint import MODEL_FILE, load_model
from mtl_search.training.files import read_json
from mtl_search.transfer import AUXILIARIES

Columns = dict[str, list[Any]]
"""Raw rows as JSON takes them: input column to values."""


@dataclass(frozen=True, eq=False)
class Champion:
    """The winner of a study.

    Attributes:
        config: The study file.
        outcome: What the study found, as `search.study.Outcome.to_dict` wrote it.
        recipe: The winner's recipe.
        tasks: In the study's order.
        model: The trained model on the CPU, in evaluation mode.
        preparation: From encoded rows to features.
        sample: A few raw training rows.
        description: Sizes and label counts, as `StudyData.describe` gave them.
    """

    config: StudyConfig
    outcome: dict[str, Any]
    recipe: Recipe
    tasks: tuple[Task, ...]
    model: MultiTaskModel
    preparation: Preparation
    sample: Columns
    description: dict[str, Any]

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


def load_champion(folder: StudyFolder) -> Champion:
    """Rebuild the trained model of a study that has ended.

    Args:
        folder: Where the study lies.

    Raises:
        StudyError: There is no such study, it has not ended well, or files of it are missing or do not fit each other.
    """
    config = folder.read_config()
    outcome = folder.read_outcome()
    if outcome is None:
        raise StudyError(
            f"study {folder.name} has no winner yet: run `mtl-search search` with --resume until it has ended"
        )
    data_file = folder.data_file
    if not data_file.exists():
        raise StudyError(f"study {folder.name} lacks the file that describes its data: {data_file}")
    data = read_json(data_file)
    tasks = tuple(Task.from_dict(task) for task in data["tasks"])
    preparation = preparation_from_dict(data["preparation"])
    recipe = Recipe.from_dict(outcome["recipe"])
    sharing = build(SHARINGS, recipe.sharing)
    sources = data.get("source_tasks", []) if build(AUXILIARIES, recipe.auxiliary).trains else []
    trained = (*tasks, *map(Task.from_dict, sources))
    with torch.random.fork_rng(devices=[]):  # building draws parameters, and the caller's random state is its own
        model = MultiTaskModel(
            build(BACKBONES, config.backbone),
            preparation.feature_shape,
            trained,
            sharing.plan([task.name for task in trained], data["blocks"]),
            [name for name in data["datasets"] if any(task.dataset == name for task in trained)],
            sharing.couple,
        )
    _load_state(model, folder, Path(outcome["folder"]))
    model.requires_grad_(requires_grad=False)
    return Champion(
        config, outcome, recipe, tasks, model.eval(), preparation.eval(), data["sample"], data["description"]
    )


def _load_state(model: MultiTaskModel, folder: StudyFolder, written: Path) -> None:
    """Fill in the trained parameters; a storage that was moved still holds them under the trial's own name."""
    places = [written, folder.trials / written.name]
    home = next((place for place in places if (place / MODEL_FILE).exists()), None)
    if home is None:
        looked = " and ".join(str(place) for place in dict.fromkeys(places))
        raise StudyError(f"study {folder.name} lacks the model of its best trial: no {MODEL_FILE} in {looked}")
    try:
        model.load_state_dict(load_model(home))
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{home / MODEL_FILE} does not fit the study's backbone and recipe: {reason}") from error
