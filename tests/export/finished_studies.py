"""Makes finished studies in small: real data, models of random parameters, in the folder that a search leaves."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl_search.config.study_config import StudyConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.export.champion import Champion, load_champion
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing import SHARINGS
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.storage.checkpoint import save_model
from mtl_search.storage.files import write_json
from mtl_search.study_store.folder import StudyFolder
from mtl_search.variants.building import build


@dataclass(frozen=True)
class Finished:
    """A study that has ended."""

    folder: StudyFolder
    data: StudyData
    model: MultiTaskModel

    @property
    def champion(self) -> Champion:
        return load_champion(self.folder)


def outcome_of(data: StudyData, recipe: Recipe, folder: Path) -> dict[str, Any]:
    found = {"metric": "accuracy", "higher_is_better": True, "validation": 0.9, "baseline": 0.88, "gain": 2.27}
    found |= {"test": 0.87, "test_baseline": 0.89, "test_gain": -2.25}
    return {
        "number": 3,
        "recipe": recipe.to_dict(),
        "folder": str(folder),
        "improvement": 2.27,
        "test_improvement": -2.25,
        "tasks": {task.name: found for task in data.tasks},
        "best_epoch": 5,
        "parameters": 1200,
        "multiply_adds": 1100,
        "single_multiply_adds": 1800,
        "single_parameters": 2000,
    }


def finish(storage: Path, raw: dict[str, Any], depth: int | None) -> Finished:
    """Write what a search leaves behind, with a model that nobody trained."""
    config = StudyConfig.model_validate(raw)
    data = load_data(config.data, config.tasks, config.seed)
    folder = StudyFolder(storage, config.name)
    network, shape = build(BACKBONES, config.backbone), data.preparation.feature_shape
    schedule = Schedule(epochs=1)
    sharing = Component("hard", {"depth": depth})
    recipe = Recipe(sharing, Component("mean"), Component("fixed"), schedule, schedule)
    torch.manual_seed(0)
    blocks = len(network.blocks(shape))
    plan = build(SHARINGS, sharing).plan([task.name for task in data.tasks], blocks)
    model = MultiTaskModel(network, shape, data.tasks, plan, data.datasets).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # away from answers that are all alike
    save_model(folder.trials / "abc", model.state_dict())
    write_json(folder.config_file, config.model_dump(mode="json"))
    write_json(
        folder.data_file,
        {
            "tasks": [task.to_dict() for task in data.tasks],
            "preparation": data.preparation.to_dict(),
            "sample": data.sample,
            "description": data.describe(),
            "datasets": list(data.datasets),
            "blocks": blocks,
        },
    )
    write_json(folder.outcome_file, outcome_of(data, recipe, folder.trials / "abc"))
    return Finished(folder, data, model)


def census(path: Path) -> None:
    """A table with everything that is awkward: whole numbers with gaps, coded and boolean categories, empty texts."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "hours", "job", "code", "member", "income", "pay", "likes_a", "likes_b", "area"])
        for row in range(80):
            age = "" if row % 9 == 4 else int(rng.integers(18, 80))
            job = ["clerk", "nurse", "", "smith"][int(rng.integers(4))]
            income, area = ["low", "high"][row % 2], ["north", "south", "west"][row % 3]
            pay = round(float(rng.normal(30000, 9000)), 2)
            likes = rng.integers(0, 2, 2).tolist()
            code, member = int(rng.integers(3)), ["True", "False"][int(rng.integers(2))]
            writer.writerow([age, round(float(rng.normal(40, 5)), 1), job, code, member, income, pay, *likes, area])
