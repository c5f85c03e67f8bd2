"""Nodes of a real cluster lost: one with workers, the driver's own with the only copy of the data, Ray's head."""

from pathlib import Path

import psutil
import pytest
from driver_processes import records
from fault_cluster import FaultCluster
from fault_studies import Begin, check_end, steps, study_of

pytestmark = [pytest.mark.timeout(480), pytest.mark.slow]

TRIALS = 20
"""So many that some are left however long a new node takes to start."""


def test_a_lost_node_s_trial_goes_on_elsewhere_and_a_new_node_joins_in(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1, count=2)
    with begun(tmp_path, study_of(tmp_path, TRIALS)) as story:

        def lose_a_node() -> None:
            broken_cluster.kill_node(broken_cluster.node_of(psutil.Process(steps(tmp_path)[-1].pid)))

        story.strike("node with a worker", lose_a_node, stages=2)
        broken_cluster.add(1)
        newest = broken_cluster.nodes[-1]
        story.command.wait_until(
            lambda: {step.pid for step in steps(tmp_path)} & {each.pid for each in newest.processes}
        )
        assert story.command.end() == 0, story.command.printed
    check_end(tmp_path, TRIALS)
    story.note("nodes")
    assert story.costs()["node with a worker"].epochs <= 1


def test_a_node_that_is_drained_takes_its_group_along_and_no_trial(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1, count=2)
    with begun(tmp_path, study_of(tmp_path, 10)) as story:
        story.command.wait_until(lambda: len(story.busy()) >= 2)
        drained = broken_cluster.node_of(psutil.Process(steps(tmp_path)[-1].pid))
        story.strike("node drained", lambda: broken_cluster.drain_node(drained, 5))
        story.command.wait_until(lambda: not drained.alive, 60)
        broken_cluster.add(1)
        assert story.command.end() == 0, story.command.printed
    check_end(tmp_path, 10)
    story.note("nodes")
    assert story.costs()["node drained"].epochs <= 1


@pytest.mark.parametrize("lost", ["raylet", "gcs_server"])
def test_the_driver_s_node_with_the_only_copy_of_the_data_is_lost_or_the_head_s_records_and_the_study_resumed(
    lost: str, tmp_path: Path, begun: Begin
) -> None:
    with FaultCluster() as first, begun(tmp_path, study_of(tmp_path, 4)) as story:
        first.add(1, count=2)
        story.hit(lost, lambda: first.kill_node(first.head, lost))
        assert story.command.process.wait(150) != 0
    left = {record.state for record in records(tmp_path)}
    assert left <= {"complete", "running", "interrupted"}
    with FaultCluster() as second:
        second.add(1, count=2)
        story.again()
        story.goes_on()
        assert story.command.end() == 0, story.command.printed
    check_end(tmp_path, 4, retried=True)
    story.note("nodes")
    assert story.costs()[lost].epochs <= 1
