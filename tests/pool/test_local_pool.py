"""The pool that is this very process: the same files as a plain loop over stages, failures that stay where they are."""

from pathlib import Path

import pytest
import torch
from plain_stages import carry_out
from tiny_studies import TASKS, files, jobs, recipe, single_job, workload
from trapped_backbone import RAISES

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.errors import ConfigError
from mtl_search.pool.jobs import Job, JobError, JobState, Update
from mtl_search.pool.local_pool import GROUP, LocalPool, check_local, local_pool
from mtl_search.storage.files import STOPPED_FILE, STOPPED_MODEL_FILE
from mtl_search.storage.reports import EpochReport
from mtl_search.training.workspace import Workload

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def study(tmp_path: Path) -> Workload:
    return workload(tmp_path / "traps")


def test_a_recipe_gives_the_files_of_a_plain_loop_over_its_stages(study: Workload, tmp_path: Path) -> None:
    of = recipe()
    with local_pool(study, ResourcesConfig()) as pool:
        pool.results(jobs(study, recipe(batch_size=20), tmp_path / "before"))
        pool.results(jobs(study, of, tmp_path / "pool"))
    carry_out(study, [job.payload for job in jobs(study, of, tmp_path / "plain")])
    for ours, plain in zip(jobs(study, of, tmp_path / "pool"), jobs(study, of, tmp_path / "plain"), strict=True):
        assert files(ours.payload.folder) == files(plain.payload.folder)


def test_updates_tell_every_epoch_and_the_end_and_a_job_runs_once(study: Workload, tmp_path: Path) -> None:
    told: list[tuple[str, list[int], JobState]] = []

    def note(job: Job, update: Update) -> None:
        told.append((job.payload.kind, [report.epoch for report in update.reports], update.state))

    todo = jobs(study, recipe(epochs=2), tmp_path)
    with local_pool(study, ResourcesConfig()) as pool:
        assert pool.size == 1
        first = pool.results(todo, note)
        assert pool.results(todo) == first
    singles = [("single_task", [epoch], JobState.RUNNING) for epoch in range(3)]
    joint = [("joint", [epoch], JobState.RUNNING) for epoch in range(3)]
    ended = [(kind, list[int](), JobState.DONE) for kind in ("single_task", "joint")]
    assert told == [*singles, ended[0], *singles, ended[0], *joint, ended[1]]


def test_a_job_is_carried_out_after_what_it_needs_though_nobody_asked_for_that(study: Workload, tmp_path: Path) -> None:
    *singles, joint = jobs(study, recipe(), tmp_path)
    with local_pool(study, ResourcesConfig()) as pool:
        pool.submit([*singles, joint])
        assert pool.follow(joint.key).state is JobState.DONE
    assert all((Path(job.payload.folder) / "result.json").exists() for job in singles)


def test_a_failure_tells_where_it_came_from_and_stays_with_the_job(study: Workload, tmp_path: Path) -> None:
    said: list[str] = []
    with local_pool(study, ResourcesConfig(), said.append) as pool:
        *_, failed = pool.run(jobs(study, recipe(batch_size=RAISES), tmp_path))
        assert failed.state is JobState.FAILED
        assert failed.reason.startswith("RuntimeError: the trap closed (trapped_backbone.py:")
        assert "Traceback" in said[0]
        with pytest.raises(JobError, match="the trap closed"):
            pool.results(jobs(study, recipe(batch_size=RAISES), tmp_path))
        assert [result.stopped for result in pool.results(jobs(study, recipe(), tmp_path))] == [False] * 3


def test_what_needs_a_failed_job_fails_with_its_reason(study: Workload, tmp_path: Path) -> None:
    with local_pool(study, ResourcesConfig(), lambda _: None) as pool:
        *_, joint = pool.run(jobs(study, recipe(single_batch=RAISES), tmp_path))
    assert joint.state is JobState.FAILED
    assert "the trap closed" in joint.reason


def test_a_stopped_job_goes_on_from_its_checkpoint(study: Workload, tmp_path: Path) -> None:
    of = recipe(epochs=4)
    todo = jobs(study, of, tmp_path / "stopped")
    seen: list[int] = []

    def until_the_second(report: EpochReport) -> bool:
        seen.append(report.epoch)
        return report.epoch < 2

    with local_pool(study, ResourcesConfig()) as pool:
        pool.submit(todo)
        assert pool.follow(todo[-1].key, until_the_second).state is JobState.CANCELLED
        folder = Path(todo[-1].payload.folder)
        assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", STOPPED_FILE, STOPPED_MODEL_FILE}
        assert pool.follow(todo[-1].key, lambda report: not seen.append(report.epoch)).state is JobState.DONE
    assert seen == [0, 1, 2, *range(5)], "what was told before is told again"
    carry_out(study, [job.payload for job in jobs(study, of, tmp_path / "plain")])
    assert files(str(folder)) == files(jobs(study, of, tmp_path / "plain")[-1].payload.folder)


def test_a_forgotten_job_is_found_again_on_disk(study: Workload, tmp_path: Path) -> None:
    job = single_job(study, next(iter(TASKS)), recipe(), tmp_path)
    with local_pool(study, ResourcesConfig()) as pool:
        (first,) = pool.results([job])
        pool.drop(job.key)
        (again,) = pool.results([job])
    assert (first.cached, again.cached) == (False, True)
    assert again.metrics == first.metrics


def test_reports_name_this_process_as_their_group(study: Workload, tmp_path: Path) -> None:
    groups = set[str]()

    def note(_: Job, update: Update) -> None:
        groups.update(report.group for report in update.reports)

    with local_pool(study, ResourcesConfig()) as pool:
        pool.results(jobs(study, recipe(), tmp_path), note)
    assert groups == {GROUP}


def test_torch_is_as_before_when_the_pool_has_gone(study: Workload, tmp_path: Path) -> None:
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    with local_pool(study, ResourcesConfig()) as pool:
        assert isinstance(pool, LocalPool)
        assert torch.get_num_threads() == 1
        pool.results(jobs(study, recipe(), tmp_path))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("resources", "words"),
    [({"workers": 2}, "resources.workers"), ({"workers": [2, 4]}, "resources.workers")],
)
def test_more_than_one_worker_a_trial_is_refused(resources: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_local(ResourcesConfig.model_validate(resources))
    check_local(ResourcesConfig())
