"""Every process of a study killed, one after the other, on a real cluster: the study itself goes on."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fault_cluster import FaultCluster
from fault_studies import Begin, Cost, check_end, steps, study_of

pytestmark = pytest.mark.timeout(400)

ALL = ("first worker", "second worker", "Train controller", "Tune trainable", "job queue")


def costs_of(
    begun: Begin, cluster: FaultCluster, place: Path, workers: int, killed: tuple[str, ...]
) -> dict[str, Cost]:
    """One group of workers, each of the processes around it killed in the middle of another trial."""

    def worker(rank: int) -> psutil.Process:
        return psutil.Process(steps(place, rank)[-1].pid)

    processes: dict[str, Callable[[], psutil.Process]] = {
        "first worker": lambda: worker(0),
        "second worker": lambda: worker(1),
        "Train controller": lambda: cluster.named("TrainController")[0],
        "Tune trainable": lambda: cluster.named("ResourceTrainable")[0],
        "job queue": lambda: cluster.named("JobQueue")[0],
    }
    cluster.add(workers)
    trials = len(killed) + 1
    raw = study_of(place, trials, resources={"workers": workers, "concurrent_trials": 1})
    with begun(place, raw) as story:
        for name in killed:
            story.strike(name, lambda name=name: processes[name]().kill())  # type: ignore[misc]
        assert story.command.end() == 0, story.command.printed
    check_end(place, trials)
    story.note(f"killed processes, groups of {workers}")
    return story.costs()


def test_a_study_goes_on_when_a_worker_and_the_job_queue_are_killed(
    tmp_path: Path, broken_cluster: FaultCluster, begun: Begin
) -> None:
    costs = costs_of(begun, broken_cluster, tmp_path, 1, ("first worker", "job queue"))
    assert max(cost.epochs for cost in costs.values()) <= 1


@pytest.fixture(scope="module")
def costs(
    shared_broken_cluster: FaultCluster, begun: Begin, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Cost]:
    return costs_of(begun, shared_broken_cluster, tmp_path_factory.mktemp("killed"), 2, ALL)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ALL)
def test_a_killed_process_costs_at_most_an_epoch_and_no_trial(costs: dict[str, Cost], killed: str) -> None:
    assert costs[killed].epochs <= 1


@pytest.mark.slow
def test_a_tune_trial_s_death_costs_no_training(costs: dict[str, Cost]) -> None:
    assert costs["Tune trainable"].epochs == 0
