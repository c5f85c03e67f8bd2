"""What a search ends with: one screen that says the answer, what to doubt of it, and how to go on."""

from dataclasses import replace

import pytest
from outcomes_by_hand import outcome

from mtl_search.report.summary import COLUMNS, LINES, alarms, answer, percent, summary, ties
from mtl_search.results.caveats import caveats
from mtl_search.results.outcome import Outcome, Proposal
from mtl_search.results.statistics import Estimate

COMMANDS = ["export it", "all trials", "look at it", "log"]


def screen(found: Outcome) -> list[str]:
    return summary("iris", found, ("sharing", "sharing.depth", "fusion", "weighting", "joint.optimizer.lr"), COMMANDS)


def test_the_summary_of_three_tasks() -> None:
    assert screen(outcome([-3.1, 0.5, 2.0])) == [
        "",
        "iris: improvement over the best single-task models +1.20 % [+0.40, +2.00] on validation, +0.70 %",
        "  [-0.10, +1.50] on test",
        "figures are of 3 fresh runs of trial 5, with 95 % intervals; the search had it at +1.50 %, 0.30",
        "  points too high; the model itself has +0.90 % on test",
        "ALARM: task task_0 does worse than alone: -3.10 % [-4.10, -2.10]",
        "proposal: a trunk each for task_0 | task_1+task_2: 1,800 parameters, 180% of this model's",
        "  task_0: accuracy on test 0.81 against 0.8 alone (+1.25 %); validation -3.10 % [-4.10, -2.10]",
        "  task_1: accuracy on test 0.81 against 0.8 alone (+1.25 %); validation +0.50 % [-0.50, +1.50]",
        "  task_2: accuracy on test 0.81 against 0.8 alone (+1.25 %); validation +2.00 % [+1.00, +3.00]",
        "tied with trial 5, as far as can be told: 2, 9; challenger, cheaper: trial 2 (50% of the parameters,",
        "  1 s an epoch against 2)",
        "best recipe (trial 5, epoch 4): hard depth=1 mean fixed lr=0.01",
        "model: /somewhere/trials/abc",
        "  1,000 parameters, 50% of the single-task models; 900 multiply-adds a sample, 50%",
        *COMMANDS,
    ]


def test_a_study_without_repeats_says_that_its_figure_is_too_good() -> None:
    lines = answer("iris", outcome([1.0], repeated=False))
    assert lines[0] == "iris: improvement over the best single-task models +1.50 % on validation, +0.90 % on test"
    assert "too good" in lines[1]
    assert alarms(outcome([1.0], repeated=False)) == ties(outcome([1.0], repeated=False)) == []


@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize("tasks", [1, 3, 16, 139])
def test_the_summary_fits_one_screen(tasks: int, repeated: bool) -> None:
    proposal = Proposal(tuple((f"task_{number}",) for number in range(tasks)), 9000) if repeated else None
    found = outcome([number / 10 - 5 for number in range(tasks)], repeated=repeated, proposal=proposal)
    lines = screen(replace(found, ties=(5, *range(100, 200)) if repeated else ()))
    assert len(lines) <= LINES
    assert all(len(line) <= COLUMNS for line in lines)
    named = [int(line.split(":")[0].removeprefix("  task_")) for line in lines if line.startswith("  task_")]
    left_out = [line for line in lines if "tasks between these" in line]
    if tasks <= 3:
        assert named == list(range(tasks))
    else:
        assert named[0] == 0, "the worst first"
        assert named[-1] == tasks - 1, "the best last"
        assert left_out == [f"  ... {tasks - len(named)} tasks between these ..."]


def test_what_is_to_be_held_against_the_figures_stands_below_them() -> None:
    found = replace(
        outcome([0.5, 1.0]),
        repeated=Estimate(0.2, 0.3, -0.4, 0.8, 3),
        first_improvement=5.2,
        rows_test=Estimate(0.7, 0.4, -0.1, 1.4, 3),
        alike=tuple(range(20, 35)),
        reach=3.2,
    )
    weak = replace(found.tasks["task_0"], under_trained=True, weight=0.02)
    found = replace(found, tasks={**found.tasks, "task_0": weak})
    said = caveats(found)
    assert [each.partition(",")[0].partition(":")[0] for each in said] == [
        "whether it gains at all cannot be told from 3 fresh runs",
        "over the default recipe's single-task models it would be +5.20 %",
        "on other test rows the same models may have -0.10 to +1.40 % (95 %",
        "the single-task models of task_0 were best in their last epoch and may be under-trained",
        "these tasks hardly count in the improvement",
    ]
    assert "5.00 points of that come from the schedule and need no shared model" in said[1]
    assert ties(found)[-1] == (
        "15 trials that were not run again lie within the 3.2 points by which one run may be off"
    )
    lines = screen(found)
    assert len(lines) <= LINES
    assert any(line.startswith("over the default recipe's") for line in lines)


def test_a_single_fresh_run_is_said_to_tell_nothing_of_how_runs_differ() -> None:
    (said,) = caveats(replace(outcome([0.5]), repeated=Estimate(0.2, runs=1)))
    assert said == ("one fresh run cannot tell how runs differ, so there is no interval: raise search.repeats.runs")


def test_alarms_name_the_worst_and_count_the_rest() -> None:
    lines = alarms(outcome([-3.0, -9.0, -5.0, -4.0, 1.0], proposal=None))
    assert [line.split(":")[1] for line in lines[:3]] == [
        *(" task task_1 does worse than alone", " task task_2 does worse than alone"),
        " task task_3 does worse than alone",
    ]
    assert lines[3] == "ALARM: 1 more tasks do worse than alone"


def test_an_estimate_without_interval_shows_none() -> None:
    assert percent(Estimate(1.0)) == "+1.00 %"
    assert percent(Estimate(1.0, 0.1, 0.5, 1.5, 3)) == "+1.00 % [+0.50, +1.50]"
