"""The verdict: on studies whose truth is known, intervals cover it, ties hold the best, alarms are rare and right."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from planted_studies import PlantedStudy

from mtl_search.config.search_config import RepeatsConfig
from mtl_search.results.objective import Goal, Objective
from mtl_search.results.selection import RepeatedTrial, Selector
from mtl_search.results.statistics import Spread, dunnett, estimate, over_rows, reach_of_one, tied, worse
from mtl_search.results.trial_record import TrialRecord

CLOSE = pytest.mark.parametrize("spread", [0.0, 0.5, 2.0], ids=["alike", "close", "apart"])


def planted(seed: int, spread: float = 0.5, tasks: int = 3, kinds: int = 4, between: float = 0.0, **noise: float):
    """40 trials; four kinds of single-task models: the default's, a tuned one, both controls."""
    random = np.random.default_rng([seed, 1])
    trials = random.normal(0, spread, (40, 1)) + random.normal(0, 0.3, (40, tasks))
    return PlantedStudy(trials, between * random.normal(0, 1, (kinds, tasks)), seed, **noise)


def coverage(number: int, **plan: float) -> tuple[float, float]:
    """How often the winner's improvement, and how often a task's gain, lies within its interval."""
    whole, single = [], []
    for seed in range(number):
        study = planted(seed, **plan)
        verdict = study.decide()
        true = study.true_gains(verdict.winner.number)
        found = verdict.improvement[verdict.winner.number]
        whole.append(found.low <= fmean(true.values()) <= found.high)
        single += [verdict.gains[task].low <= gain <= verdict.gains[task].high for task, gain in true.items()]
    return float(np.mean(whole)), float(np.mean(single))


@CLOSE
def test_intervals_of_paired_gains_hold_the_truth_as_often_as_they_say(spread: float) -> None:
    whole, single = coverage(400, spread=spread)
    assert 0.93 <= whole <= 0.985
    assert 0.94 <= single <= 0.98


@pytest.mark.parametrize(
    "plan",
    [
        {"tasks": 16},
        {"noise_alone": 2.0},
        {"common": 4.0},
        {"between": 0.5},
        {"between": 2.0, "tasks": 8},
        {"fresh": 5},
    ],
    ids=["many tasks", "noisy baselines", "seeds matter", "baselines differ", "baselines differ much", "more seeds"],
)
def test_the_choice_among_controls_and_tuned_baselines_does_not_bias_the_intervals(plan: dict[str, float]) -> None:
    whole, _ = coverage(250, **plan)
    assert 0.92 <= whole <= 0.985


def test_what_a_seed_does_to_recipe_and_baseline_alike_widens_no_interval() -> None:
    widths = []
    for common in (0.0, 10.0):
        found = [planted(seed, common=common).decide() for seed in range(40)]
        widths.append(
            np.mean(
                [each.improvement[each.winner.number].high - each.improvement[each.winner.number].low for each in found]
            )
        )
    assert widths[1] == pytest.approx(widths[0], rel=0.25)


def test_a_gain_that_the_schedule_alone_gives_is_no_gain() -> None:
    # Every trial gains 8 % over the default recipe's models, and so do models of its schedule that share nothing.
    gained = []
    for seed in range(60):
        study = PlantedStudy(np.full((20, 3), 8.0), np.array([[0.0] * 3, [2.0] * 3, [8.0] * 3, [5.0] * 3]), seed)
        verdict = study.decide()
        found = verdict.improvement[verdict.winner.number]
        gained.append(found.low > 0)
        assert {baseline.contender.name for baseline in study.baselines.by_task.values()} == {"2"}
        assert abs(found.mean) < 4
    assert np.mean(gained) <= 0.05


def test_false_alarms_are_rare() -> None:
    alarms = []
    for seed in range(600):
        study = PlantedStudy(np.zeros((3, 3)), np.zeros((4, 3)), seed)
        alarms.append(bool(study.decide().worse))
    assert np.mean(alarms) <= 0.025


def test_an_alarm_is_raised_where_a_task_loses_much() -> None:
    caught = false = 0
    for seed in range(100):
        study = PlantedStudy(np.tile([1.0, 0.0, -15.0], (5, 1)), np.zeros((4, 3)), seed)
        found = study.decide().worse
        caught += "task2" in found
        false += bool({"task0", "task1"} & set(found))
    assert caught >= 97
    assert false <= 5


@CLOSE
def test_the_optimism_gap_is_what_the_search_has_too_much(spread: float) -> None:
    told, true = [], []
    for seed in range(150):
        study = planted(seed, spread)
        verdict = study.decide()
        winner, objective = verdict.winner, study.baselines.against()
        search = objective.improvement(winner.metrics)
        told.append(search - verdict.improvement[winner.number].mean)
        # What the seed of the search did to all trials alike is in both.
        expected = [np.mean([objective.improvement(study.metrics(winner.number, s)) for s in range(100, 140)])]
        true.append(search - expected[0])
    # The best of many is too good, the more so the closer they are; the fresh runs say by how much, but for what the
    # best of three or four means keeps: at most 1.03 standard errors of one.
    keeps = np.mean(true) - np.mean(told)
    error = np.sqrt(2) / np.sqrt(3) / np.sqrt(3)
    assert -0.15 <= keeps <= 1.03 * error + 0.15
    assert np.mean(true) > {0.0: 0.6, 0.5: 0.4, 2.0: -0.1}[spread]


@CLOSE
def test_the_tie_list_holds_the_best_and_leaves_out_what_is_clearly_worse(spread: float) -> None:
    missed = wrong = far = 0
    for seed in range(200):
        study = planted(seed, spread)
        verdict = study.decide()
        true = study.trials.mean(axis=1)
        ran = [repeat.trial.number for repeat in verdict.order]
        missed += max(ran, key=lambda number: true[number]) not in {ran[0], *verdict.tied}
        for number in ran[1:]:
            if true[ran[0]] - true[number] > 5:  # ten standard errors of a difference
                far += 1
                wrong += number in verdict.tied
    assert missed <= 10 + 6  # of 200: 5 %, and two standard deviations of that
    assert wrong <= 0.03 * max(far, 1)


def asked_of(study: PlantedStudy) -> list[int]:
    """Which trials are run again, in order."""
    study.baselines.add(study, [study.contender(0)])  # type: ignore[arg-type]
    study.baselines.measure(study)  # type: ignore[arg-type]
    asked: list[int] = []

    def run_again(trials: Sequence[TrialRecord]) -> list[RepeatedTrial]:
        asked.extend(trial.number for trial in trials)
        return study.run_again(trials)

    study.judge.decide(study.records(), RepeatsConfig(), run_again)
    return asked


def test_a_cheap_trial_that_may_be_as_good_is_run_again_too() -> None:
    trials = np.zeros((40, 3))
    trials[:5] += 0.5  # nearly alike, and the later the cheaper
    asked = asked_of(PlantedStudy(trials, np.zeros((1, 3)), 0))
    assert len(asked) == 4
    assert asked[3] > max(asked[:3])


def test_a_cheap_trial_that_is_far_behind_is_not_run_again() -> None:
    trials = np.zeros((6, 3))
    trials[5] = -20.0  # the cheapest by far
    for seed in range(30):
        assert 5 not in asked_of(PlantedStudy(trials, np.zeros((1, 3)), seed))


def test_noise_that_leaves_all_within_reach_of_the_widest_interval_wastes_no_run_on_the_hopeless() -> None:
    trials = np.zeros((30, 3))
    trials[29] = -20.0
    hopeless = sum(29 in asked_of(PlantedStudy(trials, np.zeros((1, 3)), seed, noise=8.0)) for seed in range(40))
    assert hopeless <= 4


def test_a_trial_that_fails_in_a_fresh_run_does_not_win() -> None:
    study = planted(1)
    study.decide()
    records = study.records()
    one, two = study.run_again(records[:2])
    judge = study.judge
    better = judge.select([one, two]).order[0]
    other = two if better is one else one
    failed = RepeatedTrial(better.trial, better.metrics, failed=1)
    verdict = judge.select([failed, other])
    assert verdict.order == (other, failed)


def test_without_fresh_runs_the_best_of_the_search_wins_and_nothing_is_claimed() -> None:
    study = planted(2, fresh=0)
    verdict = study.decide()
    score = study.baselines.against().score
    assert verdict.winner.number == max(study.records(), key=lambda trial: score(trial.metrics)).number
    assert (verdict.improvement, verdict.gains, verdict.tied, verdict.worse) == ({}, {}, (), ())


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6))
def test_the_interval_of_one_recipe_is_student_s(runs: list[float]) -> None:
    found = estimate(runs, Spread.of([runs]))
    error = np.std(runs, ddof=1) / np.sqrt(len(runs))
    assert found.mean == pytest.approx(np.mean(runs), abs=1e-9)
    half = scipy.stats.t.ppf(0.975, len(runs) - 1) * error
    assert found.low == pytest.approx(np.mean(runs) - half, abs=1e-5)
    assert found.high == pytest.approx(np.mean(runs) + half, abs=1e-5)


@pytest.mark.parametrize(
    ("freedom", "count", "value"),
    # Dunnett 1955, table 1a (one-sided, 95 %).
    [(5, 1, 2.02), (5, 3, 2.68), (10, 4, 2.47), (20, 9, 2.60), (1e6, 4, 2.16)],
)
def test_critical_values_are_dunnett_s(freedom: float, count: int, value: float) -> None:
    assert dunnett(freedom, count) == pytest.approx(value, abs=0.012)


def test_pairing_by_seed_is_a_paired_t_test() -> None:
    goals = {"a": Goal(True, 100.0), "b": Goal(False, 100.0)}
    alone = {"a": {3: 90.0, 4: 100.0, 5: 110.0}, "b": {3: 103.0, 4: 100.0, 5: 97.0}}
    runs = {3: {"a": 91.0, "b": 100.0}, 4: {"a": 103.0, "b": 99.0}, 5: {"a": 112.0, "b": 95.0}}
    found = Selector(Objective(goals), alone).select([RepeatedTrial(TrialRecord(0, "complete"), runs)])
    # A gain is a ratio of means; its error is that of the differences to so many times the baseline (delta method).
    for task, sign in (("a", 1), ("b", -1)):
        joint = np.array([run[task] for run in runs.values()])
        single = np.array(list(alone[task].values()))
        differences = sign * (joint - joint.mean() / single.mean() * single)
        reach = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(differences)
        assert found.gains[task].mean == pytest.approx(sign * (joint.mean() - 100))
        assert found.gains[task].high - found.gains[task].mean == pytest.approx(reach)


def test_single_task_models_on_other_seeds_pair_with_nothing() -> None:
    judge = Selector(Objective({"a": Goal(True, 1.0)}), {"a": {}})
    verdict = judge.select([RepeatedTrial(TrialRecord(0, "complete"), {1: {"a": 1.1}, 2: {"a": 1.2}})])
    assert verdict.improvement[0].mean == pytest.approx(15.0)
    assert verdict.improvement[0].low is None
    assert verdict.worse == ()


def test_trials_that_came_to_the_same_job_are_run_again_once() -> None:
    study = planted(4)
    study.decide()
    records = study.records()
    twins = [
        replace(trial, job=str(trial.number // 2), metrics=records[trial.number // 2].metrics) for trial in records
    ]
    asked: list[int] = []

    def run_again(trials: Sequence[TrialRecord]) -> list[RepeatedTrial]:
        asked.extend(trial.number for trial in trials)
        return study.run_again(trials)

    study.judge.decide(twins, RepeatsConfig(), run_again)
    assert len({number // 2 for number in asked}) == len(asked) >= 3
    assert all(number % 2 == 0 for number in asked), "the first of each"


def test_one_run_of_each_makes_no_tie_and_no_challenger() -> None:
    verdict = planted(5, fresh=1).decide()
    assert (verdict.tied, verdict.alike, verdict.worse, verdict.challenger) == ((), (), (), None)
    assert len(verdict.order) == 3
    assert all(found.low is None for found in verdict.improvement.values())


def test_one_run_alone_has_no_interval_and_no_ties() -> None:
    found = estimate([1.0], Spread())
    assert (found.mean, found.std, found.low, found.high, found.runs) == (1.0, None, None, None, 1)
    assert tied([[1.0], [0.0], [-100.0]]) == [False, False]
    assert reach_of_one(1, Spread(), 5) is None
    assert worse({"a": ([-100.0], Spread())}) == []


@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_the_interval_over_rows_holds_what_the_models_would_have_on_all_rows(gain: float) -> None:
    # Two models, right on 80 % of all rows and on somewhat more, mostly on the same ones; 300 rows are the test split.
    random, held = np.random.default_rng(0), []
    true = 100 * ((0.8 * (1 + gain / 100)) / 0.8 - 1)
    for _ in range(300):
        alone = random.random(300) < 0.8
        joint = np.where(random.random(300) < 0.85, alone, random.random(300) < 0.8)
        joint = joint | ((random.random(300) < 0.8 * gain / 100 / 0.2) & ~joint)
        draws = random.integers(300, size=(400, 300))
        resampled = 100 * (joint[draws].mean(1) / alone[draws].mean(1) - 1)
        found = over_rows(100 * (joint.mean() / alone.mean() - 1), list(resampled), 1)
        assert found is not None
        held.append(found.low <= true <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_an_interval_over_rows_needs_draws_on_which_the_metric_is_defined() -> None:
    assert over_rows(1.0, [float("nan")] * 380 + [1.0] * 20, 3) is None
