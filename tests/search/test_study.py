"""Whole studies on a real Ray in this process: true states, whatever recipes, workers and trainables do."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_studies import Story, folder_of, run_here, study_of
from trapped_backbone import SLOW

from mtl_search.errors import NothingSucceededError
from mtl_search.search.outcome import Outcome
from mtl_search.search.record import TrialRecord
from mtl_search.training.files import STOPPED_FILE, STOPPED_MODEL_FILE, read_json

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("cluster")]

MANY_DIVERGE = {
    "epochs": 4,
    "batch_size": 32,
    "optimizer": {"sgd": {"lr": {"float": [1e-3, 1e6], "log": True, "default": 0.01}, "momentum": 0.0}},
}


def records(storage: Path) -> list[TrialRecord]:
    return folder_of(storage).records("journal")


def check_outcome(storage: Path, outcome: Outcome, kind: str) -> None:
    """The winner is the best complete trial by the study's objective, and its files are there."""
    folder = folder_of(storage)
    complete = [record for record in records(storage) if record.state == "complete"]
    best = max(complete, key=lambda record: (record.value or 0.0, -record.number))
    assert outcome.number == best.number
    gains = {name: task.gain for name, task in outcome.tasks.items()}
    score = {"mean_improvement": outcome.improvement, "worst_task": min(gains.values())}
    score["petal"] = -outcome.tasks["petal"].validation
    assert best.value == pytest.approx(score[kind])
    assert outcome.improvement == pytest.approx(sum(gains.values()) / len(gains))
    assert sorted(path.name for path in Path(outcome.folder).iterdir()) == ["model.safetensors", "result.json"]
    assert Outcome.from_dict(read_json(folder.outcome_file)) == outcome
    stopped = {"checkpoint.pt", STOPPED_FILE, STOPPED_MODEL_FILE}
    for trial in folder.trials.iterdir():  # a stopped or failed stage leaves no finished model
        names = {path.name for path in trial.iterdir()}
        assert names in ({"model.safetensors", "result.json"}, stopped, {"checkpoint.pt"}, set()), trial


@pytest.mark.slow
def test_a_study_in_which_many_recipes_diverge_ends_well(tmp_path: Path) -> None:
    story = Story()
    raw = study_of(tmp_path, 14, MANY_DIVERGE, stopper={"asha": {"grace": 1}})
    outcome = run_here(tmp_path / "runs", raw, story)
    ended = records(tmp_path / "runs")
    assert len(ended) == 14
    assert {record.state for record in ended} >= {"complete", "failed"}
    for record in ended:
        assert record.state in ("complete", "pruned", "failed")
        assert (record.value is None) == (record.state == "failed")
        assert record.reason.startswith("diverged: ") == (record.state == "failed")
    assert sorted(story.ended, key=lambda record: record.number) == ended
    check_outcome(tmp_path / "runs", outcome, "mean_improvement")


class KillsTheTrainable(Story):
    """Kills every Tune process of the study once, in the middle of a trial."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: list[int] = []

    def trial_reported(self, number: int, report: dict[str, Any]) -> None:
        super().trial_reported(number, report)
        if number >= 1 and report["epoch"] == 3 and not self.killed:
            for process in psutil.Process().children(recursive=True):
                if "Follower" in process.name():
                    self.killed.append(process.pid)
                    os.kill(process.pid, signal.SIGKILL)


def test_killing_the_trainables_in_mid_trial_loses_and_doubles_nothing(tmp_path: Path) -> None:
    story = KillsTheTrainable()
    joint = {"epochs": 8, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}
    outcome = run_here(tmp_path / "runs", study_of(tmp_path, 4, joint, objective="petal"), story)
    assert story.killed
    ended = records(tmp_path / "runs")
    assert [record.state for record in ended] == ["complete"] * 4
    assert story.epochs == {number: list(range(9)) for number in range(4)}, "every epoch told once"
    assert sorted(story.ended, key=lambda record: record.number) == ended
    assert len(list(folder_of(tmp_path / "runs").trials.iterdir())) == len({r.recipe.key for r in ended if r.recipe})
    check_outcome(tmp_path / "runs", outcome, "petal")


@pytest.mark.slow
@pytest.mark.parametrize("stopper", [{"median": {"grace": 1, "least": 2}}, {"asha": {"grace": 1, "reduction": 2}}])
def test_stoppers_end_trials_early_and_the_worst_task_decides(tmp_path: Path, stopper: dict[str, Any]) -> None:
    joint = {"epochs": 6, "batch_size": 32, "optimizer": {"adamw": {"lr": {"float": [1e-6, 0.1], "log": True}}}}
    raw = study_of(tmp_path, 16, joint, stopper=stopper, objective="worst_task")
    outcome = run_here(tmp_path / "runs", raw)
    ended = records(tmp_path / "runs")
    assert {record.state for record in ended} == {"complete", "pruned"}
    assert len(ended) == 16
    check_outcome(tmp_path / "runs", outcome, "worst_task")


@pytest.mark.slow
def test_a_study_whose_single_task_models_fail_says_why(tmp_path: Path) -> None:
    raw = study_of(tmp_path, 3, MANY_DIVERGE)
    raw["space"]["single_task"]["optimizer"] = {"sgd": {"lr": 1e30}}
    with pytest.raises(NothingSucceededError, match="single-task training failed: kind: diverged"):
        run_here(tmp_path / "runs", raw)
