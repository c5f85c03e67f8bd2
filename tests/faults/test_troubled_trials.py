"""A worker that hangs and one that is out of memory: the trial's trouble, not the study's."""

from pathlib import Path

import pytest
from counting_backbone import EAT, HANG
from driver_processes import records, tracked
from fault_cluster import FaultCluster
from fault_studies import Begin, study_of

pytestmark = [pytest.mark.timeout(480), pytest.mark.slow]

TRIALS, TIMEOUT = 5, 10


def test_a_worker_that_hangs_is_killed_and_one_out_of_memory_fails_its_trial_with_a_hint(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1, count=2)
    resources = {"concurrent_trials": 2, "report_timeout": f"{TIMEOUT}s"}
    with begun(tmp_path, study_of(tmp_path, TRIALS, resources=resources)) as story:
        story.strike("hang", (tmp_path / HANG).touch, stages=2)
        story.hit("out of memory", (tmp_path / EAT).touch)
        assert story.command.end() == 0, story.command.printed
    assert len(list(tmp_path.glob(f"{HANG}-*"))) == 1
    assert len(list(tmp_path.glob(f"{EAT}-*"))) == 1
    after = records(tmp_path)
    failed = [record for record in after if record.state == "failed"]
    assert [record.state for record in after].count("complete") == TRIALS - 1
    (hungry,) = failed
    assert "memory" in hungry.reason
    assert "batch_size" in hungry.reason
    assert tracked(tmp_path)[f"trial-{hungry.number}"].info.status == "FAILED"
    story.note("trials")
    assert story.costs()["hang"].epochs <= 1
    assert story.costs()["hang"].pause < TIMEOUT + 60


def test_a_recipe_that_always_hangs_fails_after_its_retries_with_the_reason(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1, count=2)
    resources = {"concurrent_trials": 2, "report_timeout": "6s", "max_retries": 1}
    raw = study_of(tmp_path, 4, epochs=2, resources=resources)
    raw["space"]["joint"]["batch_size"] = {"choice": [35, 21]}
    raw["backbone"]["python"]["params"]["hangs_at"] = 21
    with begun(tmp_path, raw) as story:
        assert story.command.end() == 0, story.command.printed
    after = records(tmp_path)
    ended = {(record.recipe.joint.batch_size, record.state) for record in after if record.recipe}
    assert ended == {(35, "complete"), (21, "failed")}
    assert all("report_timeout" in record.reason for record in after if record.state == "failed")
