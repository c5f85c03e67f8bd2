"""The job queue as a plain object under asyncio: who is told what, and that no job is lost or doubled."""

import asyncio

import pytest
from queue_histories import ATTEMPTS, NOW, SOON, epoch_report, job, queue_with, run, state, take

from mtl_search.pool.job_queue import JobQueue
from mtl_search.pool.job_table import MAX_BARREN
from mtl_search.pool.jobs import DIED, LESS_MEMORY, JobState, Lease, Shutdown, Update
from mtl_search.storage.reports import StageResult


def test_jobs_come_in_the_order_of_submission() -> None:
    async def story() -> list[str]:
        job_queue = await queue_with("a", "b", "c")
        return [(await take(job_queue, count=count)).job.key for count in range(3)]

    assert run(story()) == ["a", "b", "c"]


def test_a_key_submitted_twice_is_one_job() -> None:
    async def story() -> tuple[Lease, object]:
        job_queue = await queue_with("a", "a")
        return await take(job_queue), await job_queue.take("g", "first", 1, NOW)

    lease, second = run(story())
    assert lease.job.key == "a"
    assert second is None


def test_a_finished_job_submitted_again_is_not_run_again() -> None:
    async def story() -> tuple[object, Update]:
        job_queue = await queue_with("a")
        await job_queue.finish("g", "first", await take(job_queue), StageResult(best_score=1))
        await job_queue.submit(job("a"))
        return await job_queue.take("g", "first", 1, NOW), await state(job_queue, "a")

    lease, update = run(story())
    assert lease is None
    assert update == Update([], JobState.DONE, StageResult(best_score=1), "", 1)


def test_a_job_waits_for_what_it_needs_and_others_overtake_it() -> None:
    async def story() -> tuple[list[str], object, str]:
        job_queue = await queue_with("single")
        await job_queue.submit(job("joint", "single"))
        await job_queue.submit(job("other"))
        first, second = await take(job_queue), await take(job_queue, count=1)
        third = await job_queue.take("g", "first", 2, NOW)
        await job_queue.finish("g", "first", first, StageResult())
        return [first.job.key, second.job.key], third, (await take(job_queue, count=2)).job.key

    assert run(story()) == (["single", "other"], None, "joint")


def test_a_waiting_worker_is_woken_by_a_submission() -> None:
    async def story() -> Lease | Shutdown | None:
        job_queue = await queue_with()
        waiting = asyncio.create_task(job_queue.take("g", "first", 0, SOON))
        await asyncio.sleep(0)
        await job_queue.submit(job("a"))
        return await waiting

    lease = run(story())
    assert isinstance(lease, Lease)
    assert lease.job.key == "a"


def test_all_ranks_of_a_group_get_the_same_tickets() -> None:
    async def story() -> list[list[str]]:
        job_queue = await queue_with("a", "b", "c", "d", groups=("g", "h"))
        seen: dict[str, list[str]] = {"g0": [], "g1": [], "h0": []}
        for count in range(2):
            for rank in ("g0", "h0", "g1"):
                seen[rank].append((await take(job_queue, rank[0], count=count)).job.key)
        return list(seen.values())

    assert run(story()) == [["a", "c"], ["a", "c"], ["b", "d"]]


def test_ranks_that_wait_together_wake_with_the_same_ticket() -> None:
    async def story() -> set[object]:
        job_queue = await queue_with()
        ranks = [asyncio.create_task(job_queue.take("g", "first", 0, SOON)) for _ in range(4)]
        await asyncio.sleep(0)
        await job_queue.submit(job("a"))
        await job_queue.submit(job("b"))
        return {lease.job.key for lease in await asyncio.gather(*ranks) if isinstance(lease, Lease)}

    assert run(story()) == {"a"}


def test_all_ranks_hear_the_verdict_that_the_first_one_heard() -> None:
    async def story() -> list[bool]:
        job_queue = await queue_with("a")
        lease = await take(job_queue)
        first = await job_queue.proceed("g", "first", lease, 0)
        await job_queue.stop("a")
        second = await job_queue.proceed("g", "first", lease, 0)
        later = [await job_queue.proceed("g", "first", lease, 1) for _ in range(2)]
        return [first, second, *later]

    assert run(story()) == [True, True, False, False]


def test_a_follower_gets_the_reports_it_has_not_seen_in_order() -> None:
    async def story() -> list[Update]:
        job_queue = await queue_with("a")
        lease = await take(job_queue)
        for epoch in range(3):
            await job_queue.report("g", "first", lease, epoch_report(epoch))
        some = await job_queue.follow("a", 1, SOON)
        await job_queue.finish("g", "first", lease, StageResult(best_score=2))
        return [some, await job_queue.follow("a", 3, SOON)]

    some, last = run(story())
    assert [report.epoch for report in some.reports] == [1, 2]
    assert some.state is JobState.RUNNING
    assert last == Update([], JobState.DONE, StageResult(best_score=2), "", 1)


def test_following_an_unknown_job_ends_at_once() -> None:
    update = run(JobQueue().follow("nothing", 0, SOON))
    assert update.state is JobState.CANCELLED
    assert "nothing" in update.reason


def test_a_restarted_group_returns_its_job_to_the_front_as_the_next_attempt() -> None:
    async def story() -> list[tuple[str, int]]:
        job_queue = await queue_with("a", "b")
        await take(job_queue)
        await job_queue.join("g", "second")
        leases = [await take(job_queue, "g", "second", count) for count in range(2)]
        return [(lease.job.key, lease.attempt) for lease in leases]

    assert run(story()) == [("a", 2), ("b", 1)]


def test_a_dead_incarnation_is_not_heard() -> None:
    async def story() -> tuple[Update, bool, object, int]:
        job_queue = await queue_with("a")
        old = await take(job_queue)
        await job_queue.report("g", "first", old, epoch_report(0))
        await job_queue.join("g", "second")
        new = await take(job_queue, "g", "second")
        await job_queue.report("g", "first", old, epoch_report(1))
        await job_queue.finish("g", "first", old, StageResult(key="of the dead"))
        await job_queue.fail("g", "first", old, "the dead one's")
        go_on = await job_queue.proceed("g", "first", old, 1)
        asked = await job_queue.take("g", "first", 1, SOON)
        return await state(job_queue, "a"), go_on, asked, new.attempt

    update, go_on, asked, attempt = run(story())
    assert update == Update([epoch_report(0)], JobState.RUNNING, None, "", 2)
    assert go_on is False
    assert asked == Shutdown()
    assert attempt == 2


def test_a_dead_incarnation_that_waits_for_work_is_not_given_any() -> None:
    async def story() -> tuple[object, Lease]:
        job_queue = await queue_with()
        dead = asyncio.create_task(job_queue.take("g", "first", 0, SOON))
        await asyncio.sleep(0)
        await job_queue.join("g", "second")
        await job_queue.submit(job("a"))
        return await dead, await take(job_queue, "g", "second")

    dead, lease = run(story())
    assert dead == Shutdown()
    assert (lease.job.key, lease.attempt) == ("a", 1)


def test_an_old_attempt_in_the_same_incarnation_is_not_heard() -> None:
    async def story() -> Update:
        job_queue = await queue_with("a", groups=("g", "h"))
        old = await take(job_queue)
        await job_queue.leave("g")
        await take(job_queue, "h")
        await job_queue.finish("g", "first", old, StageResult())
        return await state(job_queue, "a")

    assert run(story()).state is JobState.RUNNING


def test_a_resumed_job_does_not_double_its_reports() -> None:
    async def story() -> list[int]:
        job_queue = await queue_with("a")
        lease = await take(job_queue)
        for epoch in range(3):
            await job_queue.report("g", "first", lease, epoch_report(epoch))
        await job_queue.join("g", "second")
        lease = await take(job_queue, "g", "second")
        for epoch in (2, 3):
            await job_queue.report("g", "second", lease, epoch_report(epoch))
        return [report.epoch for report in (await state(job_queue, "a")).reports]

    assert run(story()) == [0, 1, 2, 3]


def test_another_group_takes_over_from_one_that_left() -> None:
    async def story() -> tuple[Lease, dict[str, str]]:
        job_queue = await queue_with("a", groups=("g", "h"))
        await take(job_queue)
        await job_queue.leave("g")
        return await take(job_queue, "h"), await job_queue.groups()

    lease, groups = run(story())
    assert (lease.job.key, lease.attempt) == ("a", 2)
    assert groups == {"h": "a"}


def test_a_job_whose_workers_die_every_time_fails_and_the_next_one_runs() -> None:
    async def story() -> tuple[Update, str]:
        job_queue = await queue_with("deadly", "harmless")
        for life in range(ATTEMPTS):
            assert (await take(job_queue, "g", f"life {life}" if life else "first")).attempt == life + 1
            await job_queue.join("g", f"life {life + 1}")
        return await state(job_queue, "deadly"), (await take(job_queue, "g", f"life {ATTEMPTS}")).job.key

    update, following = run(story())
    assert update.state is JobState.FAILED
    assert update.reason == f"{DIED}, {ATTEMPTS} times in a row; if it was killed for want of memory, {LESS_MEMORY}"
    assert following == "harmless"


async def lockstep_job(patience: float) -> tuple[JobQueue, Lease]:
    job_queue = JobQueue(patience=patience)
    await job_queue.join("g", "first")
    await job_queue.submit(job("a", lockstep=True))
    return job_queue, await take(job_queue)


async def epoch(job_queue: JobQueue, lease: Lease, number: int) -> bool:
    await job_queue.report("g", "first", lease, epoch_report(number))
    return await job_queue.proceed("g", "first", lease, number)


def test_a_job_in_lockstep_runs_one_epoch_ahead_of_its_reader_and_no_more() -> None:
    async def story() -> list[bool]:
        job_queue, lease = await lockstep_job(SOON)
        first = await epoch(job_queue, lease, 0)
        second = asyncio.create_task(epoch(job_queue, lease, 1))
        await asyncio.sleep(0.02)
        waited = not second.done()
        await job_queue.follow("a", 1, NOW)
        return [first, waited, await second]

    assert run(story()) == [True, True, True]


def test_a_job_in_lockstep_does_not_wait_for_ever() -> None:
    async def story() -> bool:
        job_queue, lease = await lockstep_job(0.02)
        return all([await epoch(job_queue, lease, number) for number in range(3)])

    assert run(story())


@pytest.mark.parametrize("event", ["stop", "close", "leave"])
def test_a_job_that_waits_for_its_reader_ends_when_nobody_wants_it(event: str) -> None:
    async def story() -> bool:
        job_queue, lease = await lockstep_job(SOON)
        await epoch(job_queue, lease, 0)
        waiting = asyncio.create_task(epoch(job_queue, lease, 1))
        await asyncio.sleep(0.01)
        await {"stop": job_queue.stop, "leave": job_queue.leave}[event](
            "a" if event == "stop" else "g"
        ) if event != "close" else await job_queue.close()
        return await asyncio.wait_for(waiting, 1)

    assert run(story()) is False


def test_stopping_a_waiting_job_takes_it_out_of_the_queue() -> None:
    async def story() -> tuple[Update, str]:
        job_queue = await queue_with("a", "b")
        await job_queue.stop("a")
        return await state(job_queue, "a"), (await take(job_queue)).job.key

    update, following = run(story())
    assert update.state is JobState.CANCELLED
    assert following == "b"


def test_a_stopped_running_job_ends_as_cancelled() -> None:
    async def story() -> Update:
        job_queue = await queue_with("a")
        lease = await take(job_queue)
        await job_queue.stop("a")
        assert not await job_queue.proceed("g", "first", lease, 0)
        await job_queue.finish("g", "first", lease, StageResult(stopped=True))
        return await state(job_queue, "a")

    assert run(story()).state is JobState.CANCELLED


def test_a_stopped_job_whose_worker_dies_is_not_run_again() -> None:
    async def story() -> tuple[Update, object]:
        job_queue = await queue_with("a")
        await take(job_queue)
        await job_queue.stop("a")
        await job_queue.join("g", "second")
        return await state(job_queue, "a"), await job_queue.take("g", "second", 0, NOW)

    update, lease = run(story())
    assert update.state is JobState.CANCELLED
    assert lease is None


def test_a_cancelled_job_submitted_again_goes_on() -> None:
    async def story() -> str:
        job_queue = await queue_with("a")
        await job_queue.stop("a")
        await job_queue.submit(job("a"))
        return (await take(job_queue)).job.key

    assert run(story()) == "a"


def test_what_is_submitted_together_is_there_together_for_a_waiting_worker() -> None:
    async def story() -> list[str]:
        job_queue = await queue_with()
        waiting = [asyncio.create_task(job_queue.take(group, "first", 0, SOON)) for group in ("g", "h")]
        await job_queue.join("h", "first")
        await asyncio.sleep(0)
        await job_queue.submit(job("single"), job("joint", "single"), job("other"))
        return [lease.job.key for lease in await asyncio.gather(*waiting)]  # type: ignore[union-attr]

    assert sorted(run(story())) == ["other", "single"]


def test_a_failed_need_fails_the_jobs_that_need_it_with_its_reason() -> None:
    async def story() -> tuple[Update, object]:
        job_queue = await queue_with("single")
        await job_queue.submit(job("joint", "single"))
        await job_queue.fail("g", "first", await take(job_queue), "diverged: loss is nan")
        following = asyncio.create_task(job_queue.follow("joint", 0, SOON))
        return await job_queue.take("g", "first", 1, NOW), await asyncio.wait_for(following, 1)

    lease, update = run(story())
    assert lease is None
    assert (update.state, update.reason) == (JobState.FAILED, "diverged: loss is nan")


def test_a_need_that_nobody_submitted_fails_the_job() -> None:
    async def story() -> Update:
        job_queue = await queue_with()
        await job_queue.submit(job("joint", "missing"))
        await job_queue.take("g", "first", 0, NOW)
        return await state(job_queue, "joint")

    update = run(story())
    assert update.state is JobState.FAILED
    assert "missing" in update.reason


def test_a_forgotten_job_leaves_no_trace_once_it_has_ended() -> None:
    async def story() -> list[str]:
        job_queue = await queue_with("a", "b")
        running = await take(job_queue)
        for key in "ab":
            await job_queue.stop(key)
            await job_queue.forget(key)
        before = await state(job_queue, "a")
        await job_queue.finish("g", "first", running, StageResult(stopped=True))
        return [before.state, *[(await state(job_queue, key)).reason for key in "ab"]]

    assert run(story()) == [JobState.RUNNING, "job a is not known", "job b is not known"]


def test_closing_retires_those_who_wait_and_ends_what_runs() -> None:
    async def story() -> list[object]:
        job_queue = await queue_with("a", groups=("g", "h"))
        lease = await take(job_queue)
        waiting = asyncio.create_task(job_queue.take("h", "first", 0, SOON))
        await asyncio.sleep(0)
        await job_queue.submit(job("b"))
        await job_queue.submit(job("c"))
        await waiting
        await job_queue.close()
        last_rank = await job_queue.take("g", "first", 0, NOW)
        return [await job_queue.proceed("g", "first", lease, 0), last_rank, await job_queue.take("g", "first", 1, SOON)]

    go_on, last_rank, following = run(story())
    assert go_on is False
    assert isinstance(last_rank, Lease), "a rank gets the job that the others of its group have begun"
    assert following == Shutdown()


def test_when_every_group_is_broken_nothing_waits_for_ever() -> None:
    async def story() -> list[object]:
        job_queue = await queue_with("a", "b", groups=("g", "h"))
        await take(job_queue)
        await job_queue.broken("g", "out of memory")
        half = (
            await job_queue.problem(),
            (await state(job_queue, "a")).state,
            await job_queue.take("g", "first", 1, SOON),
        )
        await job_queue.broken("h", "out of memory too")
        update = await job_queue.follow("a", 0, SOON)
        return [*half, await job_queue.problem(), update.state, update.reason]

    assert run(story()) == [
        "",
        JobState.WAITING,
        Shutdown(),
        "out of memory",
        JobState.CANCELLED,
        "out of memory",
    ]


def test_a_broken_group_that_works_again_is_no_problem() -> None:
    async def story() -> str:
        job_queue = await queue_with()
        await job_queue.broken("g", "the device was full")
        await job_queue.join("g", "second")
        await job_queue.submit(job("a"))
        await job_queue.report("g", "second", await take(job_queue, "g", "second"), epoch_report(0))
        return await job_queue.problem()

    assert run(story()) == ""


def test_a_group_that_dies_before_every_job_is_given_up() -> None:
    async def story() -> str:
        job_queue = JobQueue()
        for life in range(MAX_BARREN + 1):
            await job_queue.join("g", f"life {life}")
        return await job_queue.problem()

    assert "before it could take a job" in run(story())
