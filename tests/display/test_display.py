"""A running study on the terminal: recipes on one line, what is done, who is at work, how long it takes."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny_studies import recipe

from mtl_search.config.study_config import StudyConfig
from mtl_search.display.live import Display
from mtl_search.display.live_table import LiveTable
from mtl_search.display.progress import Progress, seconds_left
from mtl_search.display.recipe_words import duration, recipe_words, sparkline
from mtl_search.recipe import Component, Schedule
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import BaselineRun, EpochEnded, RepeatRun, RunEnded, RunStarted, TrialEnded, TrialRun
from mtl_search.search.contenders import controls_of, default_contender
from mtl_search.storage.reports import EpochReport, StageResult

KEYS = {
    *("sharing", "sharing.depth", "fusion", "base", "base.epochs", "transfer", "auxiliary"),
    *("joint.epochs", "joint.unfreezing", "joint.unfreezing.epochs", "joint.decay", "joint.optimizer.lr"),
    *("single_task.unfreezing", "single_task.epochs"),
}
DEFAULT_MODELS = default_contender(recipe())
CONFIG = StudyConfig.model_validate(
    {
        "name": "iris",
        "data": {"source": {"sklearn": {"name": "iris"}}},
        "tasks": {"petal": {"kind": "regression", "target": "petal"}},
        "backbone": "mlp",
        "search": {"trials": 8},
    }
)


def test_words_tell_which_part_they_belong_to() -> None:
    joint = replace(recipe().joint, unfreezing=Component("gradual", {"epochs": 2}))
    chosen = replace(recipe(), joint=joint, single_task=Schedule(epochs=2), base=Component("pretrain", {"epochs": 8}))
    assert recipe_words(chosen, KEYS) == (
        "hard depth=1 mean single.epochs=2 single.unfreezing=all epochs=3 lr=0.01 cosine unfreezing=gradual "
        "unfreezing.epochs=2 base=pretrain base.epochs=8 transfer=parameters auxiliary=none"
    )


def test_a_length_of_time_is_told_in_its_two_largest_units() -> None:
    assert [duration(s) for s in (0.4, 59.4, 200, 3599.6, 7500)] == [
        *("0 s", "59 s", "3 min 20 s", "1 h 00 min", "2 h 05 min"),
    ]


@given(st.lists(st.floats(-1e6, 1e6), max_size=60), st.integers(1, 30))
def test_a_sparkline_has_a_bar_for_each_number_or_each_share_of_them(values: list[float], width: int) -> None:
    bars = sparkline(values, width)
    assert len(bars) == min(width, len(values))
    if values and max(values) > min(values):
        assert (bars[-1] == "█") == (round((values[-1] - min(values)) / (max(values) - min(values)) * 7) == 7)


def test_a_sparkline_of_the_best_so_far_grows() -> None:
    assert sparkline([0.0, 1.0, 7.0], 8) == "▁▂█"
    assert sparkline([2.0, 2.0], 8) == "▁▁"
    assert sparkline(range(16), 4) == "▂▄▆█"


def test_time_left_counts_what_runs_and_what_has_not_begun() -> None:
    assert seconds_left([], [1.0], 3, 2) is None
    assert seconds_left([10.0, 20.0], [5.0, 15.0], 4, 2) == pytest.approx((10 + 0 + 4 * 15) / 2)
    assert seconds_left([10.0], [2.0], 0, 4) == pytest.approx(8.0), "one running job cannot be shared"
    assert seconds_left([10.0], [30.0], 0, 1) == 0.0


def test_only_what_uses_up_the_budget_counts_as_done() -> None:
    progress = Progress(8)
    for number, (state, value) in enumerate(
        [("complete", 1.0), ("interrupted", None), ("pruned", 5.0), ("complete", 0.5), ("failed", None)]
    ):
        progress.on_trial_ended(TrialRecord(number, state, value, seconds=2.0))
    assert progress.done == 4
    assert progress.best == (1.0, 0), "a pruned trial is never the best"
    assert progress.bests == [1.0, 1.0]


def told(board: LiveTable) -> list[str]:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(board.table())
    assert isinstance(console.file, io.StringIO)
    assert all(len(line) <= 100 for line in console.file.getvalue().splitlines())
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def at_work(groups: int) -> tuple[Progress, LiveTable]:
    progress = Progress(8, groups, clock=lambda: 100.0)
    return progress, LiveTable("iris", "%", progress, 3, 9)


def test_the_board_says_which_group_trains_what() -> None:
    progress, board = at_work(4)
    for number in (3, 4):
        progress.started(number)
    progress.heard(3, "trial 3", EpochReport(2, 0.0, 0.0, group="group-1"))
    progress.heard(("single-task", "petal"), "single-task petal", EpochReport(7, 0.0, 0.0, group="group-0"))
    board.recipes[3], board.scores[3] = "hard depth=1", "+0.40"
    assert told(board)[-3:] == [
        "group-0 single-task petal, epoch 7",
        "group-1 trial 3, epoch 2, 0 s +0.40 hard depth=1",
        "2 more preparing trial 4, or idle",
    ]
    progress.ended(("single-task", "petal"))
    progress.heard(3, "trial 3", EpochReport(3, 0.0, 0.0, group="group-0"))  # group-1 died
    assert told(board)[-3:] == [
        "group-0 trial 3, epoch 3, 0 s +0.40 hard depth=1",
        "group-1 preparing trial 4, or idle",
        "2 more preparing trial 4, or idle",
    ]


def test_the_board_shows_no_more_groups_than_fit() -> None:
    progress, board = at_work(100)
    for number in range(20):
        progress.started(number)
        progress.heard(number, f"trial {number}", EpochReport(0, 0.0, 0.0, group=f"group-{number}"))
    lines = told(board)
    assert len(lines) < 24
    assert lines[-3:] == ["group-7 trial 7, epoch 0, 0 s", "12 more 12 at work", "80 more idle"]


def test_a_long_recipe_leaves_room_for_the_rest() -> None:
    progress, board = at_work(1)
    progress.on_trial_ended(TrialRecord(0, "complete", 1.0, seconds=20.0))
    board.ended.append(("0", "complete", "+1.00 %", "word " * 100))
    progress.started(1)
    progress.heard(1, "trial 1", EpochReport(0, 0.0, 0.0, group="group-0"))
    board.recipes[1] = "word " * 100
    lines = told(board)
    assert lines[-1].startswith("group-0 trial 1, epoch 0, 0 s word word")
    assert lines[-1].endswith("…")
    assert lines[0] == "iris: 1/8 trials 1 running, 1 complete best +1.00 % (trial 0) ▁"
    assert lines[1] == "about 2 min 20 s left, then up to 9 repeats, controls and the test"
    assert lines[3].startswith("0 complete +1.00 % word")


def test_after_the_search_the_board_counts_repeats() -> None:
    progress, board = at_work(2)
    board.ended.append(("0", "complete", "+1.00 %", ""))
    progress.on_trial_ended(TrialRecord(0, "complete", 1.0, seconds=20.0))
    board.repeats = {(0, 1): 8.0, (0, 2): None, (0, 3): None}
    assert told(board)[1] == "repeats: 1 of 3, about 8 s left, then controls and the test"
    board.repeats, board.controls = {(0, 1): 8.0}, 5
    assert told(board)[1] == "repeats: 1 of 1, controls: 5 single-task models so far, then the test"


def piped(log: Path | None = None, config: StudyConfig = CONFIG, **more: bool) -> tuple[Display, io.StringIO]:
    stream = io.StringIO()
    return Display(stream, config, {"petal": "rmse"}, {"sharing", "sharing.depth"}, log, **more), stream


RESULT = StageResult(metrics={"petal": 0.25}, best_epoch=3, seconds=1.5, wall_seconds=2.0, best_score=1.25)
LINES = [
    "2 worker groups ready",
    "single-task petal: rmse 0.25 (best epoch 3, 1.5 s); 1 of 3, about 2 s left",
    "single-task petal, seed 2: rmse 0.25 (best epoch 3, from cache); 2 of 3, about 1 s left",
    "single-task petal, seed 1: rmse 0.25 (best epoch 3, 1.5 s); 3 of 3",
    "note: the rows are few",
    "trial   0 complete     +1.25 %  40.0 s  1 of 3, about 40 s left  hard depth=1",
    "trial   1 failed                40.0 s  2 of 3, about 20 s left  hard depth=1  [diverged]",
    "trial   2 complete     +1.25 %  40.0 s  3 of 3                   same as trial 0",
    "the search is over; next: up to 9 repeats, controls and the test",
    "trial 0 again, seed 3: +1.25 %; 1 of 2, about 1 s left",
    "trial 0 again, seed 4: failed: diverged; 2 of 2",
    "single-task petal, seed 3: rmse 0.25 (best epoch 3, 1.5 s)",
    "single-task, control of trial 0: fine-tuned, then its joint schedule: petal rmse 0.25 over 3 seeds",
]


def whole_study(display: Display) -> None:
    display.on_pool_start(2)
    display.on_run(RunEnded(BaselineRun(DEFAULT_MODELS, "petal", 0), RESULT, ""))
    display.on_run(RunEnded(BaselineRun(DEFAULT_MODELS, "petal", 2), replace(RESULT, cached=True), ""))
    display.on_run(RunEnded(BaselineRun(DEFAULT_MODELS, "petal", 1), RESULT, ""))
    display.on_note("the rows are few")
    for number, state, more in (
        (0, "complete", {}),
        (1, "failed", {"reason": "diverged"}),
        (2, "complete", {"duplicate_of": 0}),
    ):
        display.on_run(RunStarted(TrialRun(number), recipe()))
        display.on_run(EpochEnded(TrialRun(number), EpochReport(1, 0.5, 0.5, group="group-0")))
        value = 1.25 if state == "complete" else None
        display.on_run(TrialEnded(TrialRecord(number, state, value, recipe(), seconds=40.0, **more)))
    display.on_run(RunStarted(RepeatRun(0, 3), recipe()))
    display.on_run(RunStarted(RepeatRun(0, 4), recipe()))
    display.on_run(RunEnded(RepeatRun(0, 3), RESULT, ""))
    display.on_run(RunEnded(RepeatRun(0, 4), None, "diverged"))
    display.on_run(RunEnded(BaselineRun(DEFAULT_MODELS, "petal", 3), RESULT, ""))
    (control, _) = controls_of(TrialRecord(0, "complete", recipe=recipe()))
    display.on_run(RunEnded(BaselineRun(control, "petal", 1), RESULT, ""))
    display.on_contender_trained(control, {"petal": 0.25}, 3)


def three_trials(**search: object) -> StudyConfig:
    return StudyConfig.model_validate({**CONFIG.model_dump(), "search": {"trials": 3, **search}})


def test_piped_output_is_a_line_for_each_end_with_count_and_time_left() -> None:
    display, stream = piped(config=three_trials())
    with display.shown():
        whole_study(display)
    assert stream.getvalue().splitlines() == LINES


def test_the_log_has_the_same_lines_with_the_time_beside_a_live_table_too(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    log, terminal = tmp_path / "search.log", Terminal()
    log.write_text("Ray said something\n")
    display = Display(terminal, three_trials(), {"petal": "rmse"}, {"sharing", "sharing.depth"}, log)
    with display.shown():
        whole_study(display)
        display.notify("what stays")
    first, *lines = log.read_text(encoding="utf-8").splitlines()
    assert first == "Ray said something"
    stamps = [re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines]
    assert all(stamps)
    assert [line[20:] for line in lines] == [*LINES, "what stays"]
    assert "trial   0 complete" not in terminal.getvalue(), "the live table shows it"
    assert "what stays" in terminal.getvalue()


def test_a_full_disk_under_the_log_does_not_end_the_study(tmp_path: Path) -> None:
    display, stream = piped(log=tmp_path / "no folder" / "search.log")
    display.notify("goes on")
    assert stream.getvalue() == "goes on\n"


def test_a_budget_of_time_alone_and_other_drivers_leave_the_number_of_trials_open() -> None:
    display, stream = piped(config=three_trials(trials=None, time_budget="1h"))
    display.on_pool_start(1)
    display.on_run(TrialEnded(TrialRecord(0, "complete", 1.25, recipe(), seconds=3.0)))
    assert stream.getvalue().splitlines()[-1] == "trial   0 complete     +1.25 %   3.0 s  1 done, about 1 h 00 min left"
    display, stream = piped(config=three_trials(), joined=True)
    display.on_pool_start(1)
    display.on_run(TrialEnded(TrialRecord(7, "complete", 1.25, recipe(), seconds=3.0)))
    assert stream.getvalue().splitlines()[-1] == "trial   7 complete     +1.25 %   3.0 s  1 done"


def test_a_resumed_study_counts_what_it_had_finished() -> None:
    display, stream = piped()
    display.on_pool_start(1)
    display.on_trials_loaded([TrialRecord(0, "complete", 1.0), TrialRecord(1, "interrupted"), TrialRecord(2, "pruned")])
    assert stream.getvalue().splitlines()[-1] == "2 of 8 trials were done before"
