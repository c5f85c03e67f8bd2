"""Command: what ``mtl-search extend`` does, from an exported model and a file to a new exported model.

The model grows, trains on plain PyTorch in this process, is judged, and is written and checked as any export is. The
old folder is only read.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl_search.data.study_data import StudyData, load_data
from mtl_search.data.trained_schema import TrainedSchema
from mtl_search.export.batches import check_batches
from mtl_search.export.bundle import ExportReport, check_formats, check_target, write_model
from mtl_search.export.champion import Champion
from mtl_search.export.extended import shown
from mtl_search.export.failure import ExportError
from mtl_search.export.programs import PT2_FILE, open_pt2, trace, write_pt2
from mtl_search.export.reopening import content_hash, formats_in, program_in, reopen
from mtl_search.extension.base import ExtensionData
from mtl_search.extension.comparison import SPLITS, compare_tasks, figures, moved_outputs
from mtl_search.extension.request import Request, read_request
from mtl_search.models.branching import extend_state
from mtl_search.models.distributed import DistributedContext
from mtl_search.storage.reports import EpochReport
from mtl_search.training.metrics import task_goals

Say = Callable[[str], None]
_PAUSE = 2.0
"""Seconds between two lines about epochs."""


@dataclass(frozen=True)
class ExtensionReport:
    """What came of it.

    Attributes:
        record: What was added and how it fared, as it stands in the new model's record.
        report: The new folder.
        rows: Rows over which the old tasks' predictions were compared bit by bit; 0 where they may change.
    """

    record: Mapping[str, Any]
    report: ExportReport
    rows: int

    def lines(self) -> list[str]:
        """The new tasks, the old tasks before and after, and what was kept, as lines to print."""
        epochs = self.record["best_epochs"]
        lines = []
        for name, task in self.record["tasks"].items():
            new = name in epochs
            said = "{after} ({trivial} by guessing)" if new else "{before} -> {after}"
            figures = [f"on {split} {said.format(**_words(task[split]))}" for split in SPLITS]
            better = "higher" if task["higher_is_better"] else "lower"
            end = f"; {better} is better{f', epoch {epochs[name]}' if new else ''}"
            lines.append(f"{'new' if new else 'old'} task {name}: {task['metric']} {', '.join(figures)}{end}")
        lines.append("(guessing: the class frequencies or the mean of the training rows, whatever the input)")
        if self.rows:
            return [
                *lines,
                f"old tasks: predictions unchanged, bit for bit, in the exported program ({self.rows} rows)",
            ]
        drift = ", ".join(f"{name} {value:.2g}" for name, value in self.record["moved_outputs"].items())
        return [
            *lines,
            f"old tasks: predictions moved on average by {drift} (probabilities, or spreads of the targets)",
        ]


def _words(figures: Mapping[str, float | None]) -> dict[str, str]:
    return {model: shown(value) for model, value in figures.items()}


def extend_model(folder: Path, file: Path, to: Path, notify: Say) -> ExtensionReport:
    """Add tasks to an exported model.

    Args:
        folder: The exported model.
        file: Data, tasks and method.
        to: The folder to write; what an earlier export or extension wrote there is replaced.
        notify: Told in a line what happens.

    Raises:
        ConfigError: The file breaks a rule.
        DataError: The data breaks a rule.
        ExportError: ``folder`` holds no model that can be extended, ``to`` cannot be written, or the new model does not
            keep what it must.
        TrialError: Training diverged.
    """
    if to.resolve() == folder.resolve():
        raise ExportError(f"cannot write to {to}: the old model stays as it is; name another folder")
    champion = reopen(folder)
    if champion.sources:
        names = ", ".join(champion.sources)
        raise ExportError(f"{folder} cannot be extended: its sharing leads through what source tasks ({names}) have")
    request = read_request(file, champion.model)
    formats = formats_in(folder)
    check_formats(formats)
    check_target(to)
    known = TrainedSchema(champion.preparation, {task.name: task for task in champion.tasks})
    with request.places.translated():
        data = load_data(request.config.data, request.config.tasks, request.config.seed, known=known)
        goals = task_goals(data)
    for note in data.notes:
        notify(f"note: {note}")
    notify(f"{champion.name}: {', '.join(task.name for task in champion.tasks)}; new: {', '.join(request.new)}")
    grown, record = _grow(champion, request, data, notify)
    kinds = {task.name: task for task in data.tasks}
    judged = record.pop("judged")
    record |= {
        "from": {"hash": content_hash(folder), "tasks": [task.name for task in champion.tasks]},
        "growths": [growth.to_dict() for growth in request.task_branches],
        "method": request.component.to_dict(),
        "schedule": request.schedule.to_dict(),
        "seed": request.config.seed,
        "keeps": request.method.keeps,
        "tasks": {name: figures(kinds[name], goals[name], judged[name]) for name in kinds},
        "description": data.describe(),
    }
    extended = replace(grown, extensions=(*champion.extensions, record))
    rows = [0]

    def accept(new: Path) -> None:
        if request.method.keeps:
            rows[0] = _unchanged(champion, program_in(new))

    report = write_model(extended, to, formats, accept)
    return ExtensionReport(record, report, rows[0])


def _grow(champion: Champion, request: Request, data: StudyData, notify: Say) -> tuple[Champion, dict[str, Any]]:
    """The champion with new tasks, trained; and what is to be told of it."""
    world = DistributedContext.current(torch.device("cuda" if torch.cuda.is_available() else "cpu"), "fp32")
    tasks = tuple(task for task in data.tasks if task.name in request.new)
    blueprint = champion.blueprint.grown(tasks, request.task_branches)
    with torch.random.fork_rng(devices=[]):
        model = blueprint.model()
        model.initialise(request.config.seed)
        model.load_state_dict(extend_state(model, champion.model.state_dict(), request.task_branches))
        old = champion.model.to(world.device)
        model.to(world.device)
        with tempfile.TemporaryDirectory(prefix="mtl_search_") as place:
            extension_data = ExtensionData(
                data,
                request.new,
                request.schedule,
                request.config.seed,
                world,
                Path(place),
                lambda stage: ProgressPrinter(stage, notify),
            )
            epochs = request.method.train(model, old, blueprint, extension_data)
    judged = compare_tasks({"before": old, "after": model}, data, world.device)
    record = {"best_epochs": epochs, "moved": moved_outputs(old, model, data, world.device), "judged": judged}
    old.cpu()
    model.cpu().requires_grad_(requires_grad=False)
    return replace(champion, blueprint=blueprint, model=model.eval()), record


def _unchanged(champion: Champion, after: Path) -> int:
    """Hold the new program against the old model's, bit by bit; the number of rows.

    Raises:
        ExportError: A prediction of an old task differs.
    """
    with tempfile.TemporaryDirectory(prefix="mtl_search_") as place:
        before = Path(place) / PT2_FILE
        write_pt2(trace(champion), before)  # made anew: to load the old folder's own would run what is in it
        old = open_pt2(before)
    new = open_pt2(after)
    rows = 0
    for columns in check_batches(champion):
        encoded = champion.encode(columns)
        rows += len(encoded[0])
        for task, was, now in zip(champion.tasks, old(encoded), new(encoded), strict=False):
            if not np.array_equal(was, now, equal_nan=True):
                raise ExportError(
                    f"predictions of task {task.name} changed, though nothing they depend on did. Nothing was written"
                )
    return rows


class ProgressPrinter:
    """Tells of a training stage, not more often than a reader follows.

    Args:
        stage: What trains.
        notify: Told a line.
    """

    def __init__(self, stage: str, notify: Say) -> None:
        self._stage, self._notify = stage, notify
        self._next = time.monotonic() + _PAUSE

    def report(self, epoch: EpochReport) -> None:
        """Tell of an epoch, if the last line is old enough."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PAUSE
        metrics = ", ".join(f"{task} {value:.4g}" for task, value in epoch.metrics.items())
        self._notify(f"training {self._stage}: epoch {epoch.epoch}, validation: {metrics}")

    def proceed(self, epoch: int) -> bool:
        """Always go on."""
        return True
