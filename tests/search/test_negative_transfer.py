"""Negative transfer: a planted harmful task raises the alarm and is set apart; copies of one task raise none."""

from pathlib import Path

import pytest
from planted_tasks import concluded, study_on


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_task_that_harms_the_others_is_an_alarm_and_the_proposal_sets_it_apart(seed: int, tmp_path: Path) -> None:
    outcome, groups = concluded(study_on("harmful", seed, tmp_path, 3.0))  # its loss counts twenty times
    assert {"a", "b"} <= set(outcome.worse)
    assert groups == [["a", "b"], ["noise"]]
    assert outcome.proposal is not None
    assert outcome.proposal.groups == (("a", "b"), ("noise",))
    # What it costs: two trunks where one model has one, so less than three models of their own.
    assert outcome.parameters < outcome.proposal.parameters < outcome.single_parameters
    for task in outcome.worse:
        found = outcome.tasks[task].repeated
        assert found is not None
        assert found.mean < 0


def test_copies_of_one_task_raise_no_alarm(tmp_path: Path) -> None:
    outcome, _ = concluded(study_on("copies", 0, tmp_path, 0.0))
    assert outcome.worse == ()
    assert outcome.proposal is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_copies_of_one_task_raise_an_alarm_in_one_of_20_studies_at_most(tmp_path: Path) -> None:
    alarms = [concluded(study_on("copies", seed, tmp_path / str(seed), 0.0))[0].worse for seed in range(20)]
    assert sum(map(bool, alarms)) <= 1, alarms
