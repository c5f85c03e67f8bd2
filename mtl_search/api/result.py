"""StudyResult: a study in a user's hands: what it found, its frames, its model, its report and export."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from mtl_search.analysis.overview import Overview
from mtl_search.api.frames import baselines_frame, tasks_frame, trials_frame
from mtl_search.api.single_recipe import recipe_of
from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import StudyError
from mtl_search.export.answers import answers
from mtl_search.export.bundle import ExportReport, export_model
from mtl_search.export.champion import Champion, load_champion
from mtl_search.recipe import Recipe
from mtl_search.report.terminal import print_report
from mtl_search.results.outcome import Outcome
from mtl_search.results.statistics import Estimate
from mtl_search.storage.paths import StoragePath, storage_path
from mtl_search.study_store.folder import StudyFolder
from mtl_search.variants.python_objects import use_objects


@dataclass(frozen=True)
class Best:
    """The trial that won.

    Attributes:
        number: The trial.
        recipe: Its recipe, as it was trained.
        improvement: Over the single-task models on validation, in percent.
        test_improvement: The same on test, over the tasks whose metric is defined there; None without any.
        repeated: Improvement on validation over fresh runs; None where the winner was not run again.
        epoch: Of joint training that the model comes from.
        folder: Where the model lies.
    """

    number: int
    recipe: Recipe
    improvement: float
    test_improvement: float | None
    repeated: Estimate | None
    epoch: int
    folder: StoragePath


class StudyResult:
    """A study that was run, here or earlier.

    Args:
        folder: Where it lies.
        objects: What its components name that was handed over in Python.

    Attributes:
        folder: Where it lies.
        name: Its name.
        storage: Where it and others lie.
        objects: What its components name that was handed over in Python.
    """

    def __init__(self, folder: StudyFolder, objects: Mapping[str, object]) -> None:
        self._folder, self.objects = folder, dict(objects)
        self._read: tuple[str, Champion] | None = None
        self.folder, self.name, self.storage = folder.path, folder.name, folder.storage

    def __repr__(self) -> str:
        written = self._folder.read_outcome()
        found = "has not ended" if written is None else f"{written['improvement']:+.2f} % on validation"
        return f"<study {self.name}: {found}, in {self.folder}>"

    @property
    def config(self) -> StudyConfig:
        """The study file it was begun with, or what stands for one."""
        return self._folder.read_config()

    @property
    def outcome(self) -> Outcome:
        """Everything the study found.

        Raises:
            StudyError: It has not ended.
        """
        written = self._folder.read_outcome()
        if written is None:
            raise StudyError(f"study {self.name} has not ended: run it again with resume=True")
        return Outcome.from_dict(written)

    @property
    def best(self) -> Best:
        """The winner: recipe, figures, folder.

        Raises:
            StudyError: The study has not ended.
        """
        outcome = self.outcome
        return Best(
            outcome.number,
            Recipe.from_dict(outcome.recipe),
            outcome.improvement,
            outcome.test_improvement,
            outcome.repeated,
            outcome.best_epoch,
            storage_path(outcome.folder),
        )

    def recipe_of(self, trial: int | None = None) -> dict[str, Any]:
        """A trial's recipe as it was tried, plain; the winner's for None.

        Raises:
            StudyError: There is no such trial, or the study has not ended.
        """
        return recipe_of(self._folder, trial)

    @property
    def trials(self) -> pd.DataFrame:
        """A row for every trial, see ``api.frames.trials_frame``."""
        return trials_frame(Overview(self._folder))

    @property
    def baselines(self) -> pd.DataFrame:
        """The single-task models, a row for every task, see ``api.frames.baselines_frame``."""
        return baselines_frame(self.outcome)

    @property
    def tasks(self) -> pd.DataFrame:
        """The best model against them, a row for every task, see ``api.frames.tasks_frame``."""
        return tasks_frame(self.outcome)

    def _champion(self) -> Champion:
        """The winner's model, read anew where a longer search has found another."""
        home = self.outcome.folder
        if self._read is None or self._read[0] != home:
            with use_objects(self.objects):
                self._read = home, load_champion(self._folder)
        return self._read[1]

    def model(self) -> nn.Module:
        """The trained model on the CPU, in evaluation mode.

        Returns:
            A module from encoded rows to one tensor per task (``models.deployed.DeployedModel``); its ``model`` is the
            multi-task model alone, its ``preparation`` what stands before it.

        Raises:
            StudyError: The study has not ended.
            ConfigError: The model needs an object that is not there, see ``open_study``.
        """
        return self._champion().deployed

    def predict(self, rows: Any) -> pd.DataFrame:
        """What the trained model says of raw rows.

        Args:
            rows: The columns that the study had as inputs, as a data frame or a mapping.

        Returns:
            A row for each. By task a column ``TASK`` (the label, the list of labels present, or the value in the
            target's unit), and for tasks with labels ``TASK_probabilities``: label to probability.

        Raises:
            StudyError: The study has not ended.
            ExportError: A column is missing, or holds what the model cannot take.
        """
        return answers(self._champion(), rows)

    def export(self, to: str | Path | None = None, formats: Sequence[str] = ("pt2",)) -> ExportReport:
        """Write the model for deployment, checked against the trained one.

        Args:
            to: The folder; by default ``STUDY-model``.
            formats: Of ``pt2`` and ``onnx``.

        Raises:
            StudyError: The study has not ended.
            ExportError: The model cannot be exported, or the folder not written.
        """
        with use_objects(self.objects):
            return export_model(self._folder, Path(to or f"{self.name}-model"), list(formats))

    def report(self) -> None:
        """Print trials and outcome."""
        print_report(self._folder)

    def html(self, file: str | Path) -> Path:
        """Write the report as one page that works offline.

        Args:
            file: The file to write.
        """
        written: Path = importlib.import_module("mtl_search.report.html_page").write_html(self._folder, Path(file))
        return written
