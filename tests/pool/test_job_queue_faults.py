"""The job queue under faults: workers that die or hang, groups that rest, a job queue in a new life."""

import asyncio
from typing import Any

import pytest
from queue_histories import ATTEMPTS, NOW, SOON, epoch_report, job, queue_with, run, state, take

from mtl_search.pool.job_queue import JobQueue
from mtl_search.pool.jobs import DIED, NODE_LOST, OUT_OF_MEMORY, JobState, Lease, Reregister, Update, fault_of
from mtl_search.storage.reports import StageResult


def test_a_job_that_finishes_an_epoch_between_its_groups_deaths_is_never_given_up() -> None:
    async def story() -> Update:
        job_queue = await queue_with("unlucky")
        for life in range(3 * ATTEMPTS):
            lease = await take(job_queue, "g", f"life {life}" if life else "first")
            await job_queue.report("g", f"life {life}" if life else "first", lease, epoch_report(life))
            await job_queue.join("g", f"life {life + 1}")
        return await state(job_queue, "unlucky")

    update = run(story())
    assert (update.state, update.attempts) == (JobState.WAITING, 3 * ATTEMPTS)


def test_retries_are_as_many_as_configured_and_the_reason_is_the_last_fault() -> None:
    async def story() -> Update:
        job_queue = JobQueue(max_retries=0)
        await job_queue.join("g", "first")
        await job_queue.submit(job("a"))
        await take(job_queue)
        await job_queue.down("g", NODE_LOST)
        return await state(job_queue, "a")

    assert run(story()) == Update([], JobState.FAILED, None, NODE_LOST, 1)


def test_a_group_that_is_down_gives_its_job_to_another_before_it_comes_back() -> None:
    async def story() -> tuple[Lease, Any, Any]:
        job_queue = await queue_with("a", groups=("g", "h"))
        await take(job_queue)
        waiting = asyncio.create_task(job_queue.take("h", "first", 0, SOON))
        await asyncio.sleep(0)
        await job_queue.down("g", NODE_LOST)
        lease = await waiting
        assert isinstance(lease, Lease)
        return lease, await job_queue.leave("g"), await job_queue.leave("g")

    lease, worked, again = run(story())
    assert (lease.job.key, lease.attempt) == ("a", 2)
    assert (worked, again) == ((True, None), (False, None))


def test_workers_of_a_job_that_goes_silent_are_killed_and_it_is_tried_again_then_fails() -> None:
    async def story() -> tuple[list[Lease], list[str], Update]:
        killed: list[str] = []
        job_queue, leases = JobQueue(2, max_retries=1, report_timeout=0.2, kill=killed.append), []
        for group in ("g", "h"):
            await job_queue.join(group, "first")
            for rank in range(2):
                await job_queue.enrol(group, "first", f"{group}{rank}")
        await job_queue.submit(job("a"))
        for group in ("g", "h"):
            lease = await job_queue.take(group, "first", 0, SOON)
            assert isinstance(lease, Lease)
            leases.append(lease)
        ended = await job_queue.follow("a", 0, SOON)
        return leases, killed, ended

    leases, killed, update = run(story())
    assert [lease.attempt for lease in leases] == [1, 2]
    assert killed == ["g0", "g1", "h0", "h1"]
    assert update.state is JobState.FAILED
    assert update.reason == "it reported nothing for 0.2 s (resources.report_timeout), 2 times in a row"


def test_a_job_that_reports_in_time_is_left_alone() -> None:
    async def story() -> list[str]:
        killed: list[str] = []
        job_queue = JobQueue(report_timeout=0.3, kill=killed.append)
        await job_queue.join("g", "first")
        await job_queue.enrol("g", "first", "g0")
        await job_queue.submit(job("a"))
        lease = await take(job_queue)
        for epoch in range(6):
            await asyncio.sleep(0.1)
            await job_queue.report("g", "first", lease, epoch_report(epoch))
        await job_queue.finish("g", "first", lease, StageResult())
        await asyncio.sleep(0.5)  # a group without a job may be silent
        return killed

    assert run(story()) == []


def test_workers_that_hang_before_they_ask_for_a_job_are_killed() -> None:
    async def story() -> list[str]:
        killed: list[str] = []
        job_queue = JobQueue(2, report_timeout=0.2, kill=killed.append)
        for group in ("g", "h"):
            await job_queue.join(group, "first")
            await job_queue.enrol(group, "first", f"{group}0")
        assert await job_queue.take("h", "first", 0, NOW) is None
        await asyncio.sleep(0.6)  # one waits for a job, the other for a file perhaps
        return killed

    assert run(story()) == ["g0"]


def test_a_job_that_waits_for_its_reader_does_not_hang() -> None:
    async def story() -> tuple[list[str], bool]:
        killed: list[str] = []
        job_queue = JobQueue(report_timeout=0.4, kill=killed.append)
        await job_queue.join("g", "first")
        await job_queue.enrol("g", "first", "g0")
        await job_queue.submit(job("a", lockstep=True))
        lease = await take(job_queue)
        goes_on = True
        for epoch in range(3):
            await job_queue.report("g", "first", lease, epoch_report(epoch))
            goes_on = goes_on and await job_queue.proceed("g", "first", lease, epoch) is True
        return killed, goes_on

    assert run(story()) == ([], True)


def test_groups_that_get_no_job_further_for_want_of_room_end_the_study_though_each_takes_it_again() -> None:
    async def story() -> tuple[Update, str]:
        job_queue = await queue_with("a", groups=("g", "h"))
        await job_queue.report("g", "first", await take(job_queue), epoch_report(0))
        await job_queue.broken("g", "cannot go on: no space is left")
        await job_queue.join("g", "second")
        lease = await take(job_queue, "h")
        await job_queue.report("h", "first", lease, epoch_report(0))
        await job_queue.broken("h", "cannot go on: no space is left")
        return await state(job_queue, "a"), await job_queue.problem()

    update, problem = run(story())
    assert update.state is JobState.CANCELLED
    assert update.reason == problem == "cannot go on: no space is left"


def test_a_group_that_gets_a_job_further_is_not_lost_any_more() -> None:
    async def story() -> tuple[Update, str]:
        job_queue = await queue_with("a", "b", groups=("g", "h"))
        first = await take(job_queue)
        await job_queue.broken("g", "cannot go on: the folder is away")
        await job_queue.join("g", "second")
        again = await take(job_queue, "g", "second")
        assert again.job == first.job
        await job_queue.report("g", "second", again, epoch_report(0))
        await take(job_queue, "h")
        await job_queue.broken("h", "cannot go on: the folder is away")
        return await state(job_queue, "a"), await job_queue.problem()

    update, problem = run(story())
    assert (update.state, problem) == (JobState.RUNNING, "")


def test_a_group_at_rest_gives_its_job_back_with_its_epoch_and_takes_no_other() -> None:
    async def story() -> tuple[bool, bool, list[Any], Lease, Update]:
        job_queue = await queue_with("a", "b")
        lease = await take(job_queue)
        before = await job_queue.proceed("g", "first", lease, 0) and not await job_queue.rest("g", NOW)
        resting = asyncio.create_task(job_queue.rest("g", SOON))
        await asyncio.sleep(0)
        verdicts = [await job_queue.proceed("g", "first", lease, epoch) for epoch in (0, 1)]
        waited = not resting.done()
        await job_queue.finish("g", "first", lease, StageResult(stopped=True))
        assert await resting
        assert await job_queue.rest("nobody", NOW)
        nothing = await job_queue.take("g", "first", 1, NOW)
        await job_queue.join("g", "second")
        return before, waited, [*verdicts, nothing], await take(job_queue, "g", "second"), await state(job_queue, "a")

    before, waited, told, lease, update = run(story())
    assert before is waited is True
    assert told == [True, False, None], "no rank hears another verdict than the first one did"
    assert (lease.job.key, lease.attempt) == ("a", 2)
    assert (update.state, update.result) == (JobState.RUNNING, None)


def test_in_a_new_life_of_the_job_queue_readers_wait_and_workers_join_again() -> None:
    async def story() -> tuple[list[Any], list[Any], Lease, Update]:
        job_queue = JobQueue(begun=False)
        lease = Lease(job("a"), 1)
        words = [
            await job_queue.take("g", "of the old life", 3, SOON),
            await job_queue.report("g", "of the old life", lease, epoch_report(4)),
            await job_queue.proceed("g", "of the old life", lease, 4),
            await job_queue.finish("g", "of the old life", lease, StageResult()),
            await job_queue.fail("g", "of the old life", lease, "no reason"),
        ]
        early = [await job_queue.follow("a", 5, NOW), await job_queue.groups()]
        await job_queue.join("g", "new")
        assert await job_queue.take("g", "new", 0, NOW) is None
        following = asyncio.create_task(job_queue.follow("a", 5, SOON))
        await asyncio.sleep(0)
        await job_queue.begin(1, [job("a")])
        again = await take(job_queue, "g", "new")
        for epoch in range(6):  # the group tells its job's history as it goes on from the checkpoint
            await job_queue.report("g", "new", again, epoch_report(epoch))
        return words, early, again, await following

    words, early, again, update = run(story())
    assert words == [Reregister()] * 5
    assert early == [Update(), None]
    assert (again.job.key, again.attempt) == ("a", 1)
    assert [report.epoch for report in update.reports] == [5], "the reader hears what it has not had"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", OUT_OF_MEMORY),
        ("The actor died because its node has died. Node Id: 17", NODE_LOST),
        ("Worker exit type: SYSTEM_ERROR. (1) the process was killed by the OOM killer", DIED),
    ],
)
def test_a_fault_is_told_by_what_ray_says_of_a_death(words: str, fault: str) -> None:
    assert fault_of(words) == fault
