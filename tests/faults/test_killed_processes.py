"""Every process of a study killed, one after the other, on a real cluster: the study itself goes on."""

import psutil
import pytest
from fault_cluster import FaultCluster
from fault_studies import Begin, Cost, check_end, steps, study_of

pytestmark = pytest.mark.timeout(400)

TRIALS = 6
KILLED = ("first worker", "second worker", "Train controller", "Tune trainable", "dispatcher")


@pytest.fixture(scope="module")
def costs(
    shared_broken_cluster: FaultCluster, begun: Begin, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Cost]:
    """One group of two workers, each of the processes around it killed in the middle of another trial."""
    cluster, place = shared_broken_cluster, tmp_path_factory.mktemp("killed")
    cluster.add(2)

    def worker(rank: int) -> psutil.Process:
        return psutil.Process(steps(place, rank)[-1].pid)

    with begun(place, study_of(place, TRIALS, resources={"workers": 2, "concurrent_trials": 1})) as story:
        story.strike("first worker", lambda: worker(0).kill())
        story.strike("second worker", lambda: worker(1).kill())
        story.strike("Train controller", lambda: cluster.named("TrainController")[0].kill())
        story.strike("Tune trainable", lambda: cluster.named("Follower")[0].kill())
        # story.strike("dispatcher", lambda: cluster.named("Mailbox")[0].kill())
        assert story.command.end() == 0, story.command.printed
    check_end(place, TRIALS)
    story.note("killed processes")
    return story.costs()


@pytest.mark.parametrize("killed", KILLED)
def test_a_killed_process_costs_at_most_an_epoch_and_no_trial(costs: dict[str, Cost], killed: str) -> None:
    assert costs[killed].epochs <= 1
    assert costs[killed].pause < 60


def test_a_tune_trial_s_death_costs_no_training(costs: dict[str, Cost]) -> None:
    assert costs["Tune trainable"].epochs == 0
