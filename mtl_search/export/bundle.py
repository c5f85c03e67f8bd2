"""The exported folder: written beside its place, checked against the trained model, then swapped in.

`export_model` is what ``mtl-search export`` calls. Nothing reaches the user's folder unless every file in it predicts
what the trained model predicts.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mtl_search.export.card import model_card
from mtl_search.export.champion import Champion, load_champion
from mtl_search.export.failure import ExportError
from mtl_search.export.parity import Answer, Differences, compare, on_encoded, tolerances
from mtl_search.export.programs import (
    ONNX_FILE,
    PT2_FILE,
    input_names,
    open_onnx,
    open_pt2,
    require_onnx,
    trace,
    write_onnx,
    write_pt2,
)
from mtl_search.export.pyfunc import LABELS_FILE, MARK, labels_document, open_pyfunc, save_pyfunc
from mtl_search.storage.checkpoint import MODEL_FILE, save_model
from mtl_search.storage.files import write_json
from mtl_search.study_store.folder import StudyFolder

FORMATS = ("pt2", "onnx")
MLFLOW_FOLDER, SAMPLE_FILE, RECIPE_FILE, CARD_FILE = "mlflow_model", "sample_input.json", "recipe.yaml", "README.md"
RECORD_FILE = "model.json"
_OWN = (
    PT2_FILE,
    ONNX_FILE,
    f"{ONNX_FILE}.data",
    MLFLOW_FOLDER,
    RECIPE_FILE,
    LABELS_FILE,
    SAMPLE_FILE,
    CARD_FILE,
    RECORD_FILE,
    MODEL_FILE,
)
Accept = Callable[[Path], None]
"""Looks at the new files before they take their place, and raises where they must not."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how close it is to the trained model.

    Attributes:
        folder: Where the files are.
        files: Their names.
        differences: Largest absolute difference of a prediction to the trained model's, by file and task.
        tolerances: The largest allowed, by task.
        rows: Rows that each file was run on.
    """

    folder: Path
    files: tuple[str, ...]
    differences: Differences
    tolerances: dict[str, float]
    rows: int

    def lines(self) -> list[str]:
        """The differences as lines to print, one per file and task."""
        return [
            f"{name}  {task}  largest difference {value:.2g} (allowed {self.tolerances[task]:.2g}, {self.rows} rows)"
            for name, tasks in self.differences.items()
            for task, value in tasks.items()
        ]


def export_model(
    folder: StudyFolder, to: Path, formats: Sequence[str] = ("pt2",), prefer: Mapping[str, float] | None = None
) -> ExportReport:
    """Write the winner of a study as a folder that needs nothing of this package, and check it.

    The folder always holds ``mlflow_model/``, the recipe, labels, a sample input and a model card.

    Args:
        folder: Where the study lies.
        to: The folder to write. It may exist: what an earlier export wrote there is replaced, the rest stays.
        formats: Programs to write beside the MLflow model, of `FORMATS`.
        prefer: Weight by task: write the model of the front that is best by these; None for the winner.

    Raises:
        ConfigError: The preference breaks a rule.
        StudyError: The study has not ended, or files of it are missing.
        MtlSearchError: The format onnx is asked for and not installed.
        ExportError: The model cannot be exported, a file differs from the trained model, or ``to`` cannot be written.
    """
    check_formats(formats)
    check_target(to)
    return write_model(load_champion(folder, prefer), to, formats)


def write_model(champion: Champion, to: Path, formats: Sequence[str], accept: Accept | None = None) -> ExportReport:
    """Write a model as a folder that needs nothing of this package, and check it.

    Args:
        champion: What to write.
        to: The folder to write, as in `export_model`.
        formats: Programs to write beside the MLflow model, of `FORMATS`.
        accept: Looks at the files before they take their place.

    Raises:
        ExportError: The model cannot be exported, a file differs from the trained model, or ``to`` cannot be written.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as name:
            new = Path(name) / "new"
            new.mkdir()
            differences, rows = _write(champion, new, formats)
            if accept is not None:
                accept(new)
            files = tuple(sorted(path.name for path in new.iterdir()))
            _swap(new, to, Path(name) / "old")
    except OSError as error:
        raise ExportError(f"cannot write to {to} ({error.strerror or error})") from error
    return ExportReport(to, files, differences, tolerances(champion), rows)


def check_formats(formats: Sequence[str]) -> None:
    """Whether these programs can be written here.

    Raises:
        ExportError: There is no such format.
        MtlSearchError: A package that one needs is not installed.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ExportError(f"no export format {unknown[0]!r} (choices: {', '.join(FORMATS)})")
    if "onnx" in formats:
        require_onnx()


def _write(champion: Champion, new: Path, formats: Sequence[str]) -> tuple[Differences, int]:
    program = trace(champion)
    write_pt2(program, new / PT2_FILE)
    save_pyfunc(champion, new / PT2_FILE, new / MLFLOW_FOLDER)
    answers: dict[str, Answer] = {}
    if "pt2" in formats:
        answers[PT2_FILE] = on_encoded(open_pt2(new / PT2_FILE), champion)
    else:
        (new / PT2_FILE).unlink()
    if "onnx" in formats:
        write_onnx(program, champion, new / ONNX_FILE)
        answers[ONNX_FILE] = on_encoded(open_onnx(new / ONNX_FILE, input_names(champion.preparation.spec)), champion)
    answers[MLFLOW_FOLDER] = open_pyfunc(new / MLFLOW_FOLDER, champion)
    differences, rows = compare(champion, answers)
    write_json(new / LABELS_FILE, labels_document(champion))
    sample = list(champion.sample.values())
    split = {"columns": list(champion.sample), "data": [list(row) for row in zip(*sample, strict=True)]}
    write_json(new / SAMPLE_FILE, {"dataframe_split": split})
    recipe = yaml.safe_dump(champion.recipe.to_dict(), sort_keys=False, allow_unicode=True)
    (new / RECIPE_FILE).write_text(recipe, encoding="utf-8")
    write_record(champion, new)
    (new / CARD_FILE).write_text(model_card(champion, differences, tolerances(champion), rows), encoding="utf-8")
    return differences, rows


def write_record(champion: Champion, folder: Path) -> None:
    """Write what the model can be rebuilt from: its parameters, and what it is made of."""
    save_model(folder, champion.model.state_dict())
    write_json(folder / RECORD_FILE, champion.to_dict())


def check_target(to: Path) -> None:
    """Whether an export may write there: a folder that holds files of our names, but not from one, is somebody's work.

    Raises:
        ExportError: It may not.
    """
    if to.exists() and not to.is_dir():
        raise ExportError(f"cannot export to {to}: it is a file")
    taken = [name for name in _OWN if (to / name).exists()]
    if taken and not is_export(to):
        raise ExportError(f"cannot export to {to}: it holds {taken[0]}, which no export wrote; name another folder")


def is_export(to: Path) -> bool:
    """Whether an export wrote this folder."""
    try:
        document = json.loads((to / LABELS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("mark") == MARK


def _swap(new: Path, to: Path, old: Path) -> None:
    """Put the new files in place; a file of an earlier export that has no new form goes, since it is another model."""
    if not to.exists():
        new.rename(to)
        return
    old.mkdir()
    # The labels first and last: should a kill come in between, the folder is still known as an export.
    for name in sorted(_OWN, key=lambda name: name != LABELS_FILE):
        if (new / name).exists() and (new / name).is_file():
            if (to / name).is_dir():
                shutil.move(to / name, old / name)
            (new / name).replace(to / name)
            continue
        if (to / name).exists():
            (to / name).rename(old / name)
        if (new / name).exists():
            (new / name).rename(to / name)
