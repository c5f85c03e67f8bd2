"""Whole studies on a real Ray in this process: true states, whatever recipes, workers and trainables do."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_processes import descendants
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from small_studies import Story, folder_of, run_here, study_of
from trapped_backbone import SLOW

from mtl_search.errors import NothingSucceededError, StudyError
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import EpochEnded, RunEvent, TrialRun
from mtl_search.search.ray_runtime import ray_runtime
from mtl_search.storage.files import STOPPED_FILE, STOPPED_MODEL_FILE, read_json

pytestmark = pytest.mark.timeout(600)

MANY_DIVERGE = {
    "epochs": 4,
    "batch_size": 32,
    "optimizer": {"sgd": {"lr": {"float": [1e-3, 1e6], "log": True, "default": 0.01}, "momentum": 0.0}},
}


def records(storage: Path) -> list[TrialRecord]:
    return folder_of(storage).records("journal")


def check_outcome(storage: Path, outcome: Outcome, kind: str) -> None:
    """The winner is the best of the repeated trials, which are among the search's best; its files are there."""
    folder = folder_of(storage)
    complete = {r.number: r for r in records(storage) if r.state == "complete" and r.duplicate_of is None}
    ran = [candidate.number for candidate in outcome.candidates]
    assert len(ran) > 1
    if kind == "petal":  # better baselines, found after the search, may rank trials by their gains anew
        ranked = sorted(complete.values(), key=lambda record: (-(record.value or 0.0), record.number))
        assert {record.number for record in ranked[:2]} <= set(ran)
    assert outcome.number == ran[0]
    best = complete[outcome.number]
    if kind == "mean_improvement":
        means = [candidate.repeated.mean for candidate in outcome.candidates]
        assert means == sorted(means, reverse=True)
        assert outcome.repeated == outcome.candidates[0].repeated
        assert outcome.optimism == pytest.approx(outcome.improvement - means[0])
    for task in outcome.tasks.values():
        assert task.baseline == pytest.approx(sum(task.baseline_runs) / len(task.baseline_runs))
        assert len(task.baseline_runs) == len(task.test_baseline_runs) == 2
        assert task.repeated is not None
        assert task.repeated.runs == 2
    gains = {name: task.gain for name, task in outcome.tasks.items()}
    assert outcome.improvement == pytest.approx(outcome.objective.mean(gains))
    # The search judges by the first baselines, the outcome by the best known.
    assert best.value == read_json(folder.trials / str(best.job) / "result.json")["best_score"]
    if kind == "petal":
        assert best.value == -outcome.tasks["petal"].validation
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

    def on_run(self, event: RunEvent) -> None:
        super().on_run(event)
        if not isinstance(event, EpochEnded) or not isinstance(event.run, TrialRun) or self.killed:
            return
        if event.run.number >= 1 and event.report.epoch == 3:
            for process in descendants("JobTrainable"):
                self.killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)


@pytest.mark.usefixtures("cluster")
def test_killing_the_trainables_in_mid_trial_loses_and_doubles_nothing(tmp_path: Path) -> None:
    story = KillsTheTrainable()
    joint = {"epochs": 8, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}
    outcome = run_here(tmp_path / "runs", study_of(tmp_path, 4, joint, objective="petal"), story, runtime=ray_runtime)
    assert story.killed
    ended = records(tmp_path / "runs")
    assert [record.state for record in ended] == ["complete"] * 4
    assert story.epochs == {number: list(range(9)) for number in range(4)}, "every epoch told once"
    assert sorted(story.ended, key=lambda record: record.number) == ended
    of_trials = {record.job for record in ended}
    assert len(of_trials) == len({record.recipe.key for record in ended if record.recipe})
    others = {path.name for path in folder_of(tmp_path / "runs").trials.iterdir()} - of_trials
    assert len(others) == 2 * len(outcome.candidates), "two fresh runs of each"
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


def test_a_search_for_the_front_of_two_tasks_keeps_both_values_of_every_trial(tmp_path: Path) -> None:
    joint = {"epochs": 2, "batch_size": 32, "optimizer": {"adamw": {"lr": {"float": [1e-4, 0.1], "log": True}}}}
    raw = study_of(tmp_path, 5, joint, objective=["kind", "petal"], sampler={"nsga2": {"population": 2}})
    del raw["search"]["stopper"]  # none is what such a study has
    outcome = run_here(tmp_path / "runs", raw)
    folder = folder_of(tmp_path / "runs")
    study = folder.optuna_study("journal")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    weights = [task.weight for task in outcome.tasks.values()]
    for trial, record in zip(study.get_trials(), records(tmp_path / "runs"), strict=True):
        assert record.value == read_json(folder.trials / str(record.job) / "result.json")["best_score"]
        assert record.value == pytest.approx(np.average(trial.values, weights=weights))
    check_outcome(tmp_path / "runs", outcome, "mean_improvement")


def test_a_baseline_is_the_best_single_task_model_that_the_search_came_upon(tmp_path: Path) -> None:
    raw = study_of(tmp_path, 6, {"epochs": 1, "batch_size": 32})
    rates = {"choice": [1e-6, 0.03], "default": 1e-6}  # the default learns nothing: a straw man
    raw["space"]["single_task"]["optimizer"] = {"adamw": {"lr": rates}}
    outcome = run_here(tmp_path / "runs", raw)
    found = {record.number: record for record in records(tmp_path / "runs")}
    assert found[0].recipe is not None
    for name, task in outcome.tasks.items():
        assert task.baseline_trial is not None
        better = found[task.baseline_trial].recipe
        assert better is not None
        assert better.single_task.optimizer.params["lr"] == 0.03
        assert len(task.baseline_runs) == 2
        if task.metric == "rmse":  # two fresh runs of it, not the one by which it was chosen; accuracies may meet
            assert found[task.baseline_trial].steps["single"][name] not in task.baseline_runs
    assert found[0].value is not None
    assert outcome.objective.improvement(found[0].metrics) < found[0].value


def test_a_study_whose_last_trial_cannot_be_written_does_not_conclude_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint = {"epochs": 1, "batch_size": 32, "optimizer": {"adamw": {"lr": {"float": [1e-4, 0.1], "log": True}}}}
    raw, write = study_of(tmp_path, 3, joint), JournalStorage.set_trial_state_values
    failed = []

    def full(storage: JournalStorage, trial: int, state: TrialState, values: Any = None) -> bool:
        if not failed and sum(each.state.is_finished() for each in storage.get_all_trials(0)) == 2:
            failed.append(trial)
            raise OSError("no space is left")
        return write(storage, trial, state, values)

    with monkeypatch.context() as disk:
        disk.setattr(JournalStorage, "set_trial_state_values", full)
        with pytest.raises(StudyError, match=r"cannot be written .OSError: no space is left.*--resume"):
            run_here(tmp_path / "runs", raw)
    assert not folder_of(tmp_path / "runs").outcome_file.exists()
    outcome = run_here(tmp_path / "runs", raw)
    states = sorted(record.state for record in records(tmp_path / "runs"))
    assert states == ["complete"] * 3 + ["interrupted"], "and tried again"
    check_outcome(tmp_path / "runs", outcome, "mean_improvement")


@pytest.mark.slow
def test_a_time_budget_ends_the_search_and_leaves_room_for_what_follows(tmp_path: Path) -> None:
    joint = {"epochs": 4, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 0.1], "log": True}}}}
    raw = study_of(tmp_path, 200, joint, time_budget="20s")
    started = time.monotonic()
    outcome = run_here(tmp_path / "runs", raw)
    assert time.monotonic() - started < 90  # closing the worker groups is no part of it, and machines may be busy
    assert 1 <= len(records(tmp_path / "runs")) < 200
    assert outcome.repeated is not None
    assert outcome.repeated.runs == 2
