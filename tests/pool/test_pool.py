"""The pool on a real Ray: each job once, the same result everywhere, failures that stay where they are."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch
from live_processes import descendants, wait_for
from plain_stages import carry_out
from safetensors.torch import load_file
from small_disk import fill, small_disk
from tiny_studies import TASKS, files, jobs, recipe, single_job, told, workload
from trapped_backbone import DEADLY, DEADLY_ONCE, RAISES, SLOW

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.errors import StudyError
from mtl_search.pool import pool as execution_pool
from mtl_search.pool.jobs import DIED, Job, JobError, JobState, Update, fault_reason
from mtl_search.pool.pool import Pool, open_pool
from mtl_search.storage.files import STOPPED_FILE, STOPPED_MODEL_FILE
from mtl_search.training.stages import is_finished
from mtl_search.training.workspace import Workload

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("cluster")]


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traps")


@pytest.fixture(scope="module")
def study(traps: Path) -> Workload:
    return workload(traps)


@pytest.fixture(scope="module")
def pool(study: Workload, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two groups of one worker."""
    with open_pool(Pool(study, ResourcesConfig(), 2, tmp_path_factory.mktemp("runs"), "pair")) as pool:
        yield pool
        ours = workers()
    wait_for(lambda: not [each for each in ours if each.is_running()], 20)  # closing leaves no worker behind


@pytest.fixture(scope="module")
def team(traps: Path, pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """One group of two workers; it closes before the other pool does, which looks for workers that are left."""
    study = workload(traps, "still_blocks")
    with open_pool(Pool(study, ResourcesConfig(workers=2), 1, tmp_path_factory.mktemp("runs"), "team")) as pool:
        yield pool


def workers() -> list[psutil.Process]:
    """Processes that train, of every pool."""
    return descendants("RayTrainWorker")


def test_one_task_trained_for_two_submissions_is_trained_once(pool: Pool, study: Workload, tmp_path: Path) -> None:
    job = single_job(study, "kind", recipe(), tmp_path)
    first, second = pool.results([job, job])
    assert first == second
    assert not first.cached
    assert [update.attempts for update in pool.run([job])] == [1]


def test_a_model_on_disk_is_not_trained_again(pool: Pool, study: Workload, tmp_path: Path) -> None:
    """A later study has a job queue that knows of nothing; another key for the same stage stands for it here."""
    job = single_job(study, "kind", recipe(), tmp_path)
    (first,) = pool.results([job])
    before = (Path(job.payload.folder) / "model.safetensors").stat().st_mtime_ns
    (later,) = pool.results([replace(job, key="another study's")])
    assert later.cached is True
    assert told(later) == told(first)
    assert (Path(job.payload.folder) / "model.safetensors").stat().st_mtime_ns == before


def test_a_recipe_gives_bitwise_the_same_everywhere(
    pool: Pool, study: Workload, tmp_path: Path, one_thread: None
) -> None:
    of = recipe()
    where: dict[str, set[str]] = {"group-0": set(), "group-1": set()}

    def note(job: Job, update: Update) -> None:
        for group, key in (pool.queue.groups() or {}).items():
            where[group].add(key)

    names = [f"time {number} " for number in range(40)]
    pool.results(jobs(study, of, tmp_path, "first "), note)
    others = [job for number in range(3) for job in jobs(study, recipe(batch_size=20 + number), tmp_path)]
    pool.results(others)
    again = [jobs(study, of, tmp_path, name)[-1] for name in names]
    pool.results(again, note)
    assert all(any(job.key in where[group] for job in again) for group in where), "both groups had a share"

    plain = tmp_path / "plain"
    carry_out(study, [job.payload for job in jobs(study, of, plain)])
    fresh = tmp_path / "fresh"
    bundle = tmp_path / "bundle"
    bundle.write_bytes(pickle.dumps((study, [job.payload for job in jobs(study, of, fresh)])))
    script = Path(__file__).with_name("plain_stages.py")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, script, bundle], check=True, env=environment, timeout=300)

    model, result = files(jobs(study, of, tmp_path, "first ")[-1].payload.folder)
    for folder in [
        *(job.payload.folder for job in again),
        *(jobs(study, of, p)[-1].payload.folder for p in (plain, fresh)),
    ]:
        assert files(folder) == (model, result)


def test_two_workers_give_what_one_gives(team: Pool, traps: Path, tmp_path: Path, one_thread: None) -> None:
    study, of = workload(traps, "still_blocks"), recipe(batch_size=24)
    together = jobs(study, of, tmp_path / "two")
    team.results(together)
    alone = jobs(study, of, tmp_path / "one")
    carry_out(study, [job.payload for job in alone])
    for two, one in zip(together, alone, strict=True):
        models = [load_file(Path(job.payload.folder) / "model.safetensors") for job in (two, one)]
        for name, value in models[1].items():
            torch.testing.assert_close(models[0][name], value, atol=1e-5, rtol=0)
        ends = [is_finished(job.payload) for job in (two, one)]
        for epochs in zip(*(told(end)["history"] for end in ends), strict=True):
            for what in ("metrics", "validation_loss", "training_loss"):
                assert epochs[0][what] == pytest.approx(epochs[1][what], abs=1e-5)


def test_a_killed_worker_s_job_goes_on_from_its_checkpoint(
    pool: Pool, study: Workload, traps: Path, tmp_path: Path, one_thread: None
) -> None:
    of = recipe(batch_size=SLOW, epochs=12)
    heard: list[int] = []
    killed: list[int] = []

    def kill_in_the_middle(job: Job, update: Update) -> None:
        if job.payload.kind != "joint":
            return
        heard.extend(report.epoch for report in update.reports)
        if not killed and len(heard) >= 3:
            killed.append(max(int(path.name[4:]) for path in traps.glob("pid-*")))
            os.kill(killed[0], signal.SIGKILL)

    for path in traps.glob("pid-*"):
        path.unlink()
    disturbed = jobs(study, of, tmp_path / "disturbed")
    pool.results(disturbed, kill_in_the_middle)
    assert heard == list(range(13)), "every epoch told once"
    assert pool.run(disturbed)[-1].attempts == 2
    carry_out(study, [job.payload for job in jobs(study, of, tmp_path / "quiet")])
    assert files(disturbed[-1].payload.folder) == files(jobs(study, of, tmp_path / "quiet")[-1].payload.folder)


def failure(pool: Pool, todo: list[Job]) -> str:
    (*_, update) = pool.run(todo)
    assert update.state is JobState.FAILED
    assert update.attempts == 1
    return update.reason


@pytest.mark.parametrize("kind", ["pool", pytest.param("team", marks=pytest.mark.slow)])
def test_a_crashing_backbone_fails_its_job_alone_with_place_and_reason(
    kind: str, traps: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pool = request.getfixturevalue(kind)
    study = workload(traps, "blocks" if kind == "pool" else "still_blocks")
    size = RAISES if kind == "pool" else 2 * RAISES
    reason = failure(pool, jobs(study, recipe(batch_size=size), tmp_path))
    assert reason.startswith("RuntimeError: the trap closed (trapped_backbone.py:")
    (traps / "crash at build").touch()
    try:
        reason = failure(pool, [single_job(study, "kind", recipe(lr=0.5), tmp_path)])
    finally:
        (traps / "crash at build").unlink()
    assert "ValueError: no such backbone today" in reason
    assert re.search(r"\(trapped_backbone\.py:\d+\)$", reason)
    assert pool.results(jobs(study, recipe(batch_size=30), tmp_path))[-1].best_epoch >= 0


def test_a_diverging_recipe_fails_with_its_reason(pool: Pool, study: Workload, tmp_path: Path) -> None:
    reason = failure(pool, jobs(study, recipe(lr=1e38), tmp_path))
    assert reason.startswith("diverged: ")


def test_jobs_that_need_a_failed_one_fail_with_its_reason(pool: Pool, study: Workload, tmp_path: Path) -> None:
    todo = jobs(study, recipe(single_batch=RAISES), tmp_path)
    updates = pool.run(todo)
    assert {update.state for update in updates} == {JobState.FAILED}
    assert updates[-1].reason in (updates[0].reason, updates[1].reason)
    with pytest.raises(JobError, match="the trap closed"):
        pool.results(todo)


def test_what_dropped_jobs_needed_is_forgotten_at_last_and_found_again_on_disk(
    pool: Pool, study: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_pool, "_MOST_SPARE", len(TASKS))
    trials = [jobs(study, recipe(single_batch=size), tmp_path) for size in (16, 24)]
    for trial in trials:
        pool.results(trial)
        pool.drop(trial[-1].key)
    known = [pool.queue.follow(job.key, 0, 0.1).state for trial in trials for job in trial]
    gone, kept = [JobState.CANCELLED], [JobState.DONE]
    assert known == len(TASKS) * gone + gone + len(TASKS) * kept + gone
    assert all(result.cached for result in pool.results(trials[0]))


def test_a_stopped_job_leaves_no_finished_model_and_goes_on_from_its_checkpoint(
    pool: Pool, study: Workload, tmp_path: Path, one_thread: None
) -> None:
    of = recipe(batch_size=SLOW, epochs=6)
    todo = jobs(study, of, tmp_path)

    def stop(job: Job, update: Update) -> None:
        if update.reports and job is todo[-1]:
            pool.queue.stop(job.key)

    assert pool.run(todo, stop)[-1].state is JobState.CANCELLED
    folder = Path(todo[-1].payload.folder)
    assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", STOPPED_FILE, STOPPED_MODEL_FILE}
    pool.results(todo)
    carry_out(study, [job.payload for job in jobs(study, of, tmp_path / "quiet")])
    assert files(str(folder)) == files(jobs(study, of, tmp_path / "quiet")[-1].payload.folder)


@pytest.mark.slow
def test_a_job_that_kills_its_workers_fails_at_last_while_others_finish(
    pool: Pool, study: Workload, tmp_path: Path
) -> None:
    deadly = jobs(study, recipe(batch_size=DEADLY), tmp_path)
    harmless = [job for lr in (0.02, 0.03) for job in jobs(study, recipe(lr=lr), tmp_path)]
    updates = pool.run([*deadly, *harmless])
    ended = dict(zip([job.key for job in [*deadly, *harmless]], updates, strict=True))
    last = ended.pop(deadly[-1].key)
    assert (last.state, last.reason) == (JobState.FAILED, fault_reason(DIED, 4))
    assert {update.state for update in ended.values()} == {JobState.DONE}


@pytest.mark.slow
def test_a_worker_killed_in_a_group_of_two_brings_the_group_back(team: Pool, traps: Path, tmp_path: Path) -> None:
    study = workload(traps, "still_blocks")
    (traps / "died").unlink(missing_ok=True)
    todo = jobs(study, recipe(batch_size=2 * DEADLY_ONCE), tmp_path)
    assert team.results(todo)[-1].stopped is False
    assert team.run(todo)[-1].attempts == 2


@pytest.mark.slow
def test_a_study_that_no_worker_can_hold_ends_with_the_reason(tmp_path: Path, study: Workload) -> None:
    broken = replace(study, base={"0.weight": np.array("no number")})
    with (
        pytest.raises(StudyError, match="worker group group-0 cannot start: TypeError"),
        open_pool(Pool(broken, ResourcesConfig(), 1, tmp_path, "broken")) as pool,
    ):
        pool.results(jobs(broken, recipe(), tmp_path))


@pytest.mark.slow
def test_a_full_disk_ends_the_study_and_is_not_the_recipe_s_fault(tmp_path: Path, study: Workload) -> None:
    with small_disk(tmp_path / "disk") as disk, open_pool(Pool(study, ResourcesConfig(), 1, tmp_path, "full")) as pool:
        pool.results(jobs(study, recipe(), disk / "before"))
        fill(disk)
        with pytest.raises(StudyError, match=r"worker group group-0 cannot go on: cannot write .*no space is left"):
            pool.results(jobs(study, recipe(batch_size=30), disk / "after"))


@pytest.mark.slow
def test_a_dead_job_queue_ends_the_study_with_words(tmp_path: Path, study: Workload) -> None:
    before = {process.pid for process in workers()}
    with open_pool(Pool(study, ResourcesConfig(), 1, tmp_path, "orphaned")) as pool:
        ray.kill(pool.queue.actor)
        with pytest.raises(StudyError, match=r"hands out the jobs has died.*--resume"):
            pool.results(jobs(study, recipe(), tmp_path))
    assert {process.pid for process in workers()} <= before


@pytest.mark.slow
def test_closing_in_mid_epoch_leaves_no_worker_behind(tmp_path: Path, study: Workload) -> None:
    before = {process.pid for process in workers()}
    with open_pool(Pool(study, ResourcesConfig(), 1, tmp_path, "short")) as pool:
        pool.submit(jobs(study, recipe(batch_size=SLOW, epochs=500), tmp_path))
        wait_for(lambda: {process.pid for process in workers()} - before)
        closing = time.monotonic()
    assert time.monotonic() - closing < 20
    wait_for(lambda: {process.pid for process in workers()} <= before, 20)


def test_tasks_of_the_tiny_study_are_those_of_the_workload(study: Workload) -> None:
    assert tuple(task.name for task in study.data.tasks) == tuple(TASKS)
