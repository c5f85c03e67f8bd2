"""``export --prefer``: the model that is written, and what its card says, are those of the preferred trial."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from finished_studies import Finished
from optuna.trial import TrialState, create_trial

from mtl_search.cli import main
from mtl_search.errors import ConfigError, StudyError
from mtl_search.export.bundle import export_model
from mtl_search.export.champion import load_champion
from mtl_search.storage.checkpoint import save_model, save_tensors
from mtl_search.storage.files import read_json, write_json
from mtl_search.study_store.folder import StudyFolder

METRICS = {"winner": {"weight": 10.0, "waist": 1.0}, "other": {"weight": 9.0, "waist": 1.6}}
"""Baselines are 0.88 (see ``finished_studies``), so the gains are large; here higher is better."""


@pytest.fixture
def folder(numbers_study: Finished, copied: Callable[[Finished], StudyFolder]) -> StudyFolder:
    """A study of a winner (trial 3), a trial stopped early (4) whose waist is better, and one that lost its model."""
    folder = copied(numbers_study)
    outcome = read_json(folder.outcome_file)
    outcome |= {"folder": str(folder.trials / "abc"), "repeated": {"mean": 1.0}, "ties": [4], "challenger": 4}
    outcome["tasks"] = {
        task: found | {"worse": True, "steps": {}, "repeated": {"mean": 1.0}}
        for task, found in outcome["tasks"].items()
    }
    write_json(folder.outcome_file, outcome)
    write_json(folder.trials / "abc" / "result.json", result_of(outcome, "winner", 5))
    state = {name: 2 * value for name, value in numbers_study.model.state_dict().items()}
    save_tensors(folder.trials / "def" / "stopped.safetensors", state)
    write_json(folder.trials / "def" / "stopped.json", result_of(outcome, "other", 2))
    study = folder.optuna_study("journal")
    notes = [{}, {}, {"job": "gone"}, {"job": "abc"}, {"job": "def"}, {"job": "def", "duplicate_of": 4}]
    states = [TrialState.FAIL] * 2 + [TrialState.COMPLETE] * 2 + [TrialState.PRUNED] * 2
    for state, note in zip(states, notes, strict=True):
        recipe = {"recipe": outcome["recipe"]} if note else {}
        value = None if state is TrialState.FAIL else 1.0
        values: dict[str, Any] = {"intermediate_values": {2: 1.0}} if state is TrialState.PRUNED else {"value": value}
        study.add_trial(create_trial(state=state, user_attrs=note | recipe, **values))
    return folder


def result_of(outcome: dict[str, Any], name: str, epoch: int) -> dict[str, Any]:
    steps = dict.fromkeys(("base", "single", "fused", "joint"), METRICS[name])
    measured = {"metrics": METRICS[name], "best_epoch": epoch, "steps": steps}
    return {**measured, "recipe": outcome["recipe"], "parameters": 77, "multiply_adds": 70}


def test_the_stopped_trial_that_a_preference_picks_is_rebuilt(folder: StudyFolder, numbers_study: Finished) -> None:
    champion = load_champion(folder, {"waist": 100})
    state = numbers_study.model.state_dict()
    assert all(torch.equal(value, 2 * state[name]) for name, value in champion.model.state_dict().items())
    outcome = champion.outcome
    assert (outcome["number"], outcome["best_epoch"], outcome["parameters"]) == (4, 2, 77)
    gains = {task: 100 * (value - 0.88) / 0.88 for task, value in METRICS["other"].items()}
    assert {task: found["gain"] for task, found in outcome["tasks"].items()} == pytest.approx(gains)
    assert outcome["improvement"] == pytest.approx(sum(gains.values()) / 2)
    assert outcome["tasks"]["waist"]["validation"] == 1.6
    assert outcome["test_improvement"] is None
    assert outcome["repeated"] is None
    assert (outcome["ties"], outcome["challenger"]) == ([], None)
    for found in outcome["tasks"].values():
        assert (found["test"], found["test_baseline"], found["test_gain"]) == (None, None, None)
        assert found["worse"] is None


def test_a_preference_for_the_winner_gives_the_winner_with_its_test_figures(folder: StudyFolder) -> None:
    for prefer in ({}, {"weight": 3.0}):
        assert load_champion(folder, prefer).to_dict() == load_champion(folder).to_dict()


def test_the_exported_folder_speaks_of_the_model_in_it(
    folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out"
    command = ["export", "fitness", "--prefer", "waist=100", "--to", str(to), "--output", str(folder.storage)]
    assert main(command) == 0
    assert "largest difference" in capsys.readouterr().out
    card = (to / "README.md").read_text(encoding="utf-8")
    assert "trial 4, epoch 2" in card
    assert "not measured on test" in card
    assert "not the winner of the study" in card
    assert card.count("| – | – | – |") == 2, "no test figures"
    assert "-2.25" not in card, "the winner's test gain"
    record = json.loads((to / "model.json").read_text(encoding="utf-8"))
    assert record["outcome"]["number"] == 4


def test_mistakes_in_a_preference_are_told(
    folder: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"--prefer\.colour: is not a task"):
        export_model(folder, tmp_path / "out", prefer={"colour": 1.0})
    assert main(["export", "fitness", "--prefer", "waist", "--output", str(folder.storage)]) == 2
    assert "--prefer: must be written TASK=WEIGHT" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_models_of_older_versions_are_refused_by_name(folder: StudyFolder) -> None:
    file = folder.trials / "def" / "stopped.json"
    write_json(file, {name: value for name, value in read_json(file).items() if name != "recipe"})
    with pytest.raises(StudyError, match="trial 4 was trained by an older version"):
        load_champion(folder, {"waist": 100})


def test_a_study_without_any_model_says_so(folder: StudyFolder) -> None:
    for path in folder.trials.glob("*/*.json"):
        path.unlink()
    with pytest.raises(StudyError, match="fitness has no model left to choose from"):
        load_champion(folder, {})


def test_half_written_files_of_a_stop_are_no_model(folder: StudyFolder, numbers_study: Finished) -> None:
    save_model(folder.trials / "def", numbers_study.model.state_dict())
    (folder.trials / "def" / "stopped.json").unlink()
    assert load_champion(folder, {"waist": 100}).outcome["number"] == 3
