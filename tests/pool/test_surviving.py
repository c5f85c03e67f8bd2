"""What a pool on a real Ray lives through: memory that runs out, workers that hang, a job queue that is killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from live_processes import descendants
from tiny_studies import files, jobs, recipe, workload
from trapped_backbone import HUNGRY, SLOW

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.pool.jobs import LESS_MEMORY, Job, JobState, Update
from mtl_search.pool.pool import Pool, open_pool
from mtl_search.training.workspace import Workload

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("cluster"), pytest.mark.slow]


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traps")


@pytest.fixture(scope="module")
def study(traps: Path) -> Workload:
    return workload(traps, "still_blocks")


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "pair"])
def pool(
    request: pytest.FixtureRequest, study: Workload, cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool]:
    """One group, of one worker and then of two."""
    resources = ResourcesConfig(workers=request.param, report_timeout="15s", max_retries=1)
    with open_pool(Pool(study, resources, 1, tmp_path_factory.mktemp("runs"), "surviving")) as pool:
        yield pool


def rows(pool: Pool, of_a_rank: int) -> int:
    """Batch size that gives every rank so many rows."""
    return of_a_rank * pool.resources.most_workers


def test_a_trial_that_takes_all_memory_fails_with_a_hint_and_the_next_one_runs(
    pool: Pool, study: Workload, tmp_path: Path
) -> None:
    before = {each.pid for each in descendants("RayTrainWorker")}
    (*_, update) = pool.run(jobs(study, recipe(batch_size=rows(pool, HUNGRY)), tmp_path))
    assert update.state is JobState.FAILED
    assert "allocate memory" in update.reason
    assert update.reason.endswith(LESS_MEMORY)
    assert update.attempts == 1, "it would take as much the next time"
    pool.results(jobs(study, recipe(batch_size=30), tmp_path))
    if pool.resources.most_workers == 1:
        assert {each.pid for each in descendants("RayTrainWorker")} == before, "the group is alive"


def test_a_hanging_worker_is_killed_and_its_job_goes_on(pool: Pool, study: Workload, tmp_path: Path) -> None:
    of = recipe(batch_size=rows(pool, SLOW), epochs=12)
    heard: list[int] = []
    stopped: list[int] = []

    def stop_one(job: Job, update: Update) -> None:
        if job.payload.kind == "joint":
            heard.extend(report.epoch for report in update.reports)
            if not stopped and len(heard) >= 3:
                stopped.append(descendants("RayTrainWorker")[-1].pid)
                os.kill(stopped[0], signal.SIGSTOP)

    todo = jobs(study, of, tmp_path)
    updates = pool.run(todo, stop_one)
    assert [update.state for update in updates] == [JobState.DONE] * 3
    assert updates[-1].attempts == 2
    assert heard == list(range(13)), "every epoch told once"
    assert not psutil.pid_exists(stopped[0])


def test_a_killed_job_queue_loses_no_job_and_no_epoch(pool: Pool, study: Workload, tmp_path: Path) -> None:
    of = recipe(batch_size=rows(pool, SLOW), epochs=12)
    todo = jobs(study, of, tmp_path / "disturbed")
    heard: list[int] = []
    killed: list[int] = []

    def kill_it(job: Job, update: Update) -> None:
        if job is todo[-1]:
            heard.extend(report.epoch for report in update.reports)
            if not killed and len(heard) >= 3:
                killed.append(len(heard))
                ray.kill(pool.queue.actor, no_restart=False)

    later = jobs(study, recipe(batch_size=24), tmp_path / "later")
    updates = pool.run([*todo, *later], kill_it)
    assert killed
    assert {update.state for update in updates} == {JobState.DONE}
    assert heard == list(range(13)), "every epoch told once"
    quiet = jobs(study, of, tmp_path / "quiet")
    pool.results(quiet)
    assert files(todo[-1].payload.folder) == files(quiet[-1].payload.folder)


def test_a_killed_controller_s_group_starts_again_in_the_same_room(pool: Pool, study: Workload, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_it(job: Job, update: Update) -> None:
        if job is todo[-1] and update.reports and not killed:
            killed.extend(each.pid for each in descendants("TrainController"))
            os.kill(killed[-1], signal.SIGKILL)

    todo = jobs(study, recipe(batch_size=rows(pool, SLOW), epochs=12), tmp_path)
    updates = pool.run(todo, kill_it)
    assert killed
    assert [update.state for update in updates] == [JobState.DONE] * 3
    assert updates[-1].attempts == 2
