"""What the recorder makes of a study: names and tags to find runs by, figures that agree, a description to read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from made_outcomes import METRICS, outcome_of, recipe_of, record_of, report_of, small_study

from mtl_search.analysis.pareto import Point
from mtl_search.api.mlflow_uploads import log_unfinished
from mtl_search.search.callbacks import (
    BaselineRun,
    BaseRun,
    EpochEnded,
    RepeatRun,
    RunEnded,
    RunStarted,
    TrialEnded,
    TrialRun,
)
from mtl_search.search.contenders import controls_of, default_contender
from mtl_search.storage.reports import StageResult
from mtl_search.study_store.folder import StudyFolder
from mtl_search.tracking.journal import PARENT
from mtl_search.tracking.recorder import Recorder
from mtl_search.tracking.tracker import Tracker

PATIENCE = 60.0
DEFAULT_MODELS = default_contender(recipe_of())
Track = Callable[..., Tracker]


def recorder_on(tracker: Tracker, **search: object) -> Recorder:
    study = small_study(**search)
    recorder = Recorder(tracker, study.config, METRICS, study.space)
    recorder.study_started({"rows": {"train": {"main": 90}, "test": {"main": 30}}}, {"study.yaml": "name: tiny\n"})
    return recorder


def tell_a_trial(recorder: Recorder, number: int) -> None:
    recorder.on_run(RunStarted(TrialRun(number), recipe_of()))
    recorder.on_run(EpochEnded(TrialRun(number), report_of(0, 1.0)))
    recorder.on_run(EpochEnded(TrialRun(number), report_of(1, 5.0)))
    recorder.on_run(EpochEnded(TrialRun(number), report_of(2, 4.0, best=5.0)))


def test_trial_can_be_found_by_its_name_and_tags_and_sorted_by_its_best_improvement(track: Track, seen) -> None:
    with track() as tracker:
        recorder = recorder_on(tracker)
        tell_a_trial(recorder, 12)
        recorder.on_run(TrialEnded(record_of(12, epoch_seconds=0.5, worker_seconds=1.5, seconds=2.0, peak_mib=99.0)))
        assert tracker.flush(PATIENCE) == 0
    trial = seen.runs["trial-12"]
    assert trial.info.run_name == "12 hard-3 uncertainty lr=3e-4"
    tags = {"kind": "trial", "state": "COMPLETE", "sharing": "hard", "weighting": "uncertainty", "fusion": "mean"}
    assert {**tags, "base": "random"}.items() <= trial.data.tags.items()
    assert [(step, value) for step, value, _ in seen.curve("trial-12", "val/improvement")] == [(0, 1), (1, 5), (2, 4)]
    wanted = {"improvement": 5.0, "val_best/kind/accuracy": 0.9, "time/worker_seconds": 1.5, "memory/peak_mib": 99.0}
    wanted |= {"weight/kind": 1.2, "val/petal/rmse": 0.2, "time/epoch_seconds": 0.5, "time/fastest_epoch_seconds": 0.5}
    assert wanted.items() <= trial.data.metrics.items()


def test_pruned_trial_has_the_improvement_of_its_best_epoch_whatever_the_objective(track: Track, seen) -> None:
    with track() as tracker:
        recorder = recorder_on(tracker, objective="worst_task")
        tell_a_trial(recorder, 0)
        recorder.on_run(TrialEnded(record_of(0, "pruned", value=-3.0)))
        recorder.on_run(RunStarted(TrialRun(1), recipe_of()))
        recorder.on_run(TrialEnded(record_of(1, "failed", value=None, reason="diverged")))
        assert tracker.flush(PATIENCE) == 0
    assert (seen.runs["trial-0"].data.metrics["improvement"], seen.states["trial-0"]) == (5.0, "FINISHED")
    assert "improvement" not in seen.runs["trial-1"].data.metrics
    assert seen.runs["trial-1"].data.tags["reason"] == "diverged"


def test_final_figures_are_against_the_baselines_that_count_in_the_end(track: Track, seen) -> None:
    outcome = outcome_of()
    final = outcome.objective.improvement({"kind": 0.9, "petal": 0.2})
    with track() as tracker:
        recorder = recorder_on(tracker)
        for number in (0, 1):
            tell_a_trial(recorder, number)
            recorder.on_run(TrialEnded(record_of(number)))
        recorder.on_run(RunStarted(RepeatRun(1, 2), recipe_of()))
        history, metrics = (report_of(0, 1.0), report_of(1, 5.0)), {"kind": 0.9, "petal": 0.2}
        recorder.on_run(RunEnded(RepeatRun(1, 2), StageResult(history=history, metrics=metrics, best_epoch=1), ""))
        tell_a_trial(recorder, 2)  # stopped early, its model gone: judged by what it told
        recorder.on_run(TrialEnded(record_of(2, "pruned", value=-9.0)))
        recorder.on_run(RunStarted(TrialRun(3), recipe_of()))
        recorder.on_run(TrialEnded(record_of(3, "pruned", value=-9.0)))
        on_disk = Point(3, 1, {"kind": 0.9, "petal": 0.2}, {}, Path("trials/3"), stopped=True)
        recorder.study_ended(outcome, [record_of(0), record_of(1), record_of(2, "pruned")], [on_disk])
        assert tracker.flush(PATIENCE) == 0
    runs = seen.runs
    assert {key: run.data.metrics["improvement"] for key, run in runs.items() if key != PARENT} == dict.fromkeys(
        ["trial-0", "trial-1", "trial-2", "trial-3", "repeat-1-2"], final
    )
    assert runs["repeat-1-2"].info.run_name == "1 again, seed 2: hard-3 uncertainty lr=3e-4"
    assert {"kind": "repeat", "of_trial": "1", "state": "COMPLETE"}.items() <= runs["repeat-1-2"].data.tags.items()
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs.values()} == {None, runs[PARENT].info.run_id}


def test_single_task_models_of_several_seeds_are_runs_of_their_own(track: Track, seen) -> None:
    result = StageResult(history=(report_of(0, 1.0),), metrics={"kind": 0.8}, parameters=7)
    with track() as tracker:
        recorder = recorder_on(tracker)
        for seed in range(3):
            recorder.on_run(RunEnded(BaselineRun(DEFAULT_MODELS, "kind", seed), result, ""))
        recorder.on_run(RunEnded(BaselineRun(DEFAULT_MODELS, "petal", 0), None, "diverged"))
        for control in controls_of(record_of(7)):
            recorder.on_run(RunEnded(BaselineRun(control, "kind", 1), result, ""))
        assert tracker.flush(PATIENCE) == 0
    runs = {key: run for key, run in seen.runs.items() if key != PARENT}
    controls = {key: runs.pop(key) for key in ("baseline-kind/control-7-continued/1", "baseline-kind/control-7-base/1")}
    assert runs.keys() == {"baseline-kind", "baseline-kind/1", "baseline-kind/2", "baseline-petal"}
    assert [runs[key].data.params["run"] for key in sorted(runs)] == ["0", "1", "2", "0"]
    assert {run.data.tags["kind"] for run in runs.values()} == {"baseline"}
    assert {run.data.tags["kind"] for run in controls.values()} == {"control"}
    assert {run.info.run_name for run in controls.values()} == {
        "baseline-kind, seed 1 (control of trial 7: fine-tuned, then its joint schedule)",
        "baseline-kind, seed 1 (control of trial 7: its joint schedule alone)",
    }
    assert runs["baseline-petal"].data.tags["state"] == "FAILED"
    assert "improvement" not in runs["baseline-kind"].data.metrics


def test_parent_says_what_was_found_how_far_to_trust_it_and_what_loses(track: Track, seen) -> None:
    with track() as tracker:
        recorder = recorder_on(tracker)
        tell_a_trial(recorder, 1)
        recorder.on_run(TrialEnded(record_of(1)))
        assert tracker.flush(PATIENCE) == 0
        assert "What was searched" in seen.runs[PARENT].data.tags["mlflow.note.content"]
        recorder.study_ended(outcome_of(), [record_of(1), record_of(2, "pruned")])
        assert tracker.flush(PATIENCE) == 0
    parent = seen.runs[PARENT].data
    tags = {"alarm": "petal", "challenger_trial": "0", "best_trial": "1", "ties": "1, 0, 7", "kind": "study"}
    assert tags.items() <= parent.tags.items()
    figures = {"improvement": 5.0, "optimism": 2.0, "repeated/improvement": 3.0, "repeated/improvement/low": 0.5}
    assert {**figures, "repeated/gain/petal/high": -4.0, "test/improvement": 2.5}.items() <= parent.metrics.items()
    note = parent.tags["mlflow.note.content"]
    for words in (
        "+3.00 [+0.50, +5.50] %",
        "optimism gap",
        "best single-task models known",
        "Alarm",
        "Challenger: trial 0",
        "2, 1 complete, 1 pruned",
    ):
        assert words in note
    assert "`sharing`: hard, cross_stitch" in note


def test_study_that_is_extended_has_one_best_trial(track: Track, seen) -> None:
    for winner in (0, 1):
        with track() as tracker:
            recorder = recorder_on(tracker)
            for number in (0, 1):
                recorder.on_run(RunStarted(TrialRun(number), recipe_of()))
                recorder.on_run(TrialEnded(record_of(number)))
            outcome = outcome_of(winner, challenger=None, worse=False)
            recorder.study_ended(outcome, [record_of(0), record_of(1)])
    assert {key: run.data.tags.get("best") for key, run in seen.runs.items()} == {
        PARENT: None,
        "trial-0": "false",
        "trial-1": "true",
    }
    assert (seen.runs[PARENT].data.tags["alarm"], seen.runs[PARENT].data.tags["challenger_trial"]) == (
        "not tested",
        "none",
    )


def test_resumed_study_tells_again_what_was_not_told_to_its_end_and_nothing_else(track: Track, seen) -> None:
    history, metrics = (report_of(0, 1.0), report_of(1, 5.0)), {"kind": 0.9, "petal": 0.2}
    result = StageResult(history=history, metrics=metrics, best_epoch=1, parameters=7)
    keys = ["base", "baseline-kind", "repeat-1-1"]

    def tell(recorder: Recorder, *, whole: bool) -> None:
        recorder.on_run(EpochEnded(BaseRun("pretrain"), report_of(0, 1.0)))
        recorder.on_run(EpochEnded(BaselineRun(DEFAULT_MODELS, "kind", 0), report_of(0, 1.0)))
        recorder.on_run(RunStarted(RepeatRun(1, 1), recipe_of()))
        if whole:
            recorder.on_run(RunEnded(BaseRun("pretrain"), result, ""))
            recorder.on_run(RunEnded(BaselineRun(DEFAULT_MODELS, "kind", 0), replace(result, cached=True), ""))
            recorder.on_run(RunEnded(RepeatRun(1, 1), result, ""))
            recorder.study_ended(outcome_of(), [])

    runs = []
    for whole in (False, True, True):
        with track() as tracker:
            tell(recorder_on(tracker), whole=whole)
            if not whole:
                tracker.end_study("KILLED")
            assert tracker.flush(PATIENCE) == 0
        if whole:
            infos = {key: (run.info.status, run.info.end_time) for key, run in seen.runs.items() if key != PARENT}
            points = {key: seen.curve(key, "score") for key in keys} | {"": seen.curve("repeat-1-1", "improvement")}
            runs.append((infos, points))
    assert runs[0] == runs[1]
    assert {status for status, _ in runs[0][0].values()} == {"FINISHED"}
    assert all({step for step, *_ in runs[0][1][key]} == {0, 1} for key in keys)


def test_study_that_ends_early_says_how_far_it_came(track: Track, seen) -> None:
    with track() as tracker:
        recorder = recorder_on(tracker)
        recorder.study_left([record_of(0), record_of(1, "interrupted", value=None)])
        tracker.end_study("KILLED")
    assert "1 complete, 1 interrupted" in seen.runs[PARENT].data.tags["mlflow.note.content"]


def test_what_fails_while_a_study_is_left_does_not_hide_why_it_is(tmp_path: Path) -> None:
    told: list[str] = []
    tracker = Tracker(tmp_path / "journal", "http://127.0.0.1:9", "e", "gone")
    log_unfinished(StudyFolder(tmp_path, "gone"), tracker, recorder_on(tracker), told.append)
    tracker.close(timeout=0)
    assert "no study 'gone'" in told[0]
