"""Studies side by side: what compares is compared with an interval, what does not is said to."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from outcomes_by_hand import finished, outcome, task
from scipy import stats
from tiny_studies import recipe

from mtl_search.cli import main
from mtl_search.report.comparison import Comparison
from mtl_search.results.outcome import Outcome
from mtl_search.results.statistics import Estimate, difference


def won_by(mean: float, std: float = 0.3) -> Outcome:
    return replace(outcome([1.0, 2.0]), repeated=Estimate(mean, std, mean - 1, mean + 1, 3))


def test_a_difference_is_welch_s() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(1, 1, 3), draw.normal(0, 2, 5)
    known = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    of_a, of_b = (Estimate(float(x.mean()), float(x.std(ddof=1)), runs=len(x)) for x in (a, b))
    found = difference(of_a, of_b)
    assert (found.low, found.high) == (pytest.approx(known.low), pytest.approx(known.high))
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert difference(of_a, Estimate(1.0)).low is None, "one run says nothing of how runs differ"
    same = difference(Estimate(1.0, 0.0, runs=3), Estimate(1.0, 0.0, runs=3))
    assert (same.low, same.high) == (0.0, 0.0)


def test_the_interval_of_a_difference_holds_the_truth_in_95_of_100_cases() -> None:
    draw = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        a, b = draw.normal(2, 1, 3), draw.normal(1, 1, 3)
        found = difference(*(Estimate(float(x.mean()), float(x.std(ddof=1)), runs=3) for x in (a, b)))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1 <= found.high
    assert abs(hits / 1000 - 0.95) < NormalDist().inv_cdf(0.9995) * (0.95 * 0.05 / 1000) ** 0.5 + 0.01


def test_studies_on_the_same_ground_are_told_apart_or_not(tmp_path: Path) -> None:
    folders = [finished(tmp_path, name, won_by(mean)) for name, mean in (("a", 1.0), ("b", 4.0), ("c", 1.1))]
    comparison = Comparison.of(folders)
    assert comparison.notes == ()
    assert [(d.better, d.other, d.told_apart) for d in comparison.differences] == [
        *(("b", "a", True), ("c", "a", False), ("b", "c", True)),
    ]
    assert str(comparison.differences[0]).startswith("b is ahead of a by 3.00 points of improvement [+2.")


@pytest.mark.parametrize(
    ("changes", "other", "told"),
    [
        ({"tasks": [0, 2]}, outcome([1.0, 2.0]), "other tasks, task_1 in a alone"),
        ({"metric": "auroc"}, outcome([1.0, 2.0]), "another metric for task_0, task_1"),
        ({"key": "other"}, outcome([1.0, 2.0]), "other data, or other splits of it"),
        ({"seed": 1, "tasks": [0]}, outcome([1.0]), "other data, or other splits of it"),
        (
            {},
            replace(outcome([1.0, 2.0]), tasks={"task_0": task(1.0), "task_1": task(2.0, baseline=0.7)}),
            "a and b do not compare in improvement: other single-task models for task_1, so compare the metrics",
        ),
    ],
)
def test_what_does_not_compare_is_said_and_not_compared(
    tmp_path: Path, changes: dict[str, object], other: Outcome, told: str
) -> None:
    if changes.get("tasks") == [0, 2]:
        other = replace(other, tasks={"task_0": task(1.0), "task_2": task(2.0)})
    comparison = Comparison.of([finished(tmp_path, "a", won_by(1.0)), finished(tmp_path, "b", other, **changes)])
    assert any(told in note for note in comparison.notes), comparison.notes
    assert comparison.differences == ()


def test_studies_that_are_not_ended_or_not_repeated_are_named(tmp_path: Path) -> None:
    folders = [
        finished(tmp_path, "running", None),
        finished(tmp_path, "once", outcome([1.0], repeated=False)),
        finished(tmp_path, "thrice", outcome([1.0])),
    ]
    comparison = Comparison.of(folders)
    assert comparison.notes[0] == "running has not ended"
    assert comparison.notes[1].startswith("once was not run again: ")
    assert comparison.differences == ()


def test_only_the_parts_that_differ_are_shown(tmp_path: Path) -> None:
    other = replace(won_by(1.0), recipe=recipe(lr=0.1).to_dict())
    comparison = Comparison.of([finished(tmp_path, "a", won_by(1.0)), finished(tmp_path, "b", other)])
    assert comparison.differing() == {"joint.optimizer.lr": [0.01, 0.1]}


def test_the_command_prints_tables_or_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = finished(tmp_path / "x", "a", won_by(1.0)), finished(tmp_path / "y", "a", won_by(4.0))
    assert main(["compare", str(a.path), str(b.path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"a in {b.storage} is ahead of a in {a.storage} by 3.00 points of improvement" in said
    assert "improvement, fresh runs +1.00 % [+0.00, +2.00] +4.00 % [+3.00, +5.00]" in said
    assert main(["compare", str(a.path), str(b.path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["studies", "notes", "differences", "recipes"]
    assert document["differences"][0]["told_apart"] is True
    assert document["studies"][1]["outcome"]["repeated"]["mean"] == 4.0


def test_of_many_tasks_those_are_shown_that_differ_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gains = [float(number) / 10 for number in range(139)]
    finished(tmp_path, "a", outcome(gains))
    finished(tmp_path, "b", outcome([0.0] * 139))
    assert main(["compare", "a", "b", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "127 more tasks" in said
    assert "task_138" in said
    assert "task_5 " not in said
